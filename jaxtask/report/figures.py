"""Figures for papers, by Matplotlib: each fits a column of 3.5 inches, or says why it cannot."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxtask.report.graph import layered
from jaxtask.report.labels import place_labels, shorten
from jaxtask.report.pairs import Bands, Pair, angle_sides, pair_vectors, telling_pairs

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jaxtask.analysis.findings import Findings

COLUMN = 3.5
"""Inches: a column of most two-column papers."""
FORMATS = ("pdf", "png", "svg")

# Okabe and Ito's colours, which colour-blind people tell apart, and shapes that say the same again.
_COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C", "#B8A800",
)  # fmt: skip
_SHAPES = ("o", "s", "D", "^", "X", "*", "h", "P")
_QUIET = "0.45"
_STYLE = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "savefig.dpi": 300,
    # Text stays text, also for who edits the figure.
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}
# Above this many, numbers are not written into cells, nor names at points.
_WRITTEN, _NAMED = 9, 30


def draw_figures(
    ds: "xr.Dataset",
    findings: "Findings",
    folder: Path,
    format: str,
    pairs: Sequence[Pair] | None = None,
) -> dict[str, str]:
    """Draw every figure that the result has the numbers for.

    Args:
        ds: A result of `compare`.
        findings: What was found in it.
        folder: Where the files go; it is there.
        format: "pdf", "png" or "svg".
        pairs: Of which angles and spectra are drawn; the three most telling by default.

    Returns:
        By name of a figure its file's name, or why it was not drawn.

    """
    import matplotlib

    told = {}
    chosen = list(pairs) if pairs is not None else telling_pairs(findings)[:3]
    # Neither the user's settings nor an open window have a say.
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_STYLE, "backend": "agg"}):
        for name, draw in _figures(ds, findings, chosen):
            if isinstance(draw, str):
                told[name] = draw
                continue
            figure = draw()
            file = f"{name}.{format}"
            # Without the time of day, one result has one figure.
            date = {"pdf": "CreationDate", "svg": "Date"}.get(format)
            metadata = {date: None} if date else None
            figure.savefig(folder / file, bbox_inches="tight", pad_inches=0.02, metadata=metadata)
            told[name] = file
    return told


def _figures(
    ds: "xr.Dataset", findings: "Findings", pairs: Sequence[Pair]
) -> Iterator[tuple[str, "Callable[[], Figure] | str"]]:
    """Each figure's name, and what draws it or why nothing does."""
    variable = findings.maps.variable
    yield "matrix", lambda: _matrix(findings)
    yield (
        "pca",
        lambda: _scatter(findings, findings.maps.pca, findings.maps.pca_shares, "component"),
    )
    yield (
        "mds",
        lambda: _scatter(findings, findings.maps.mds, findings.maps.mds_shares, "dimension"),
    )
    yield "clusters", lambda: _tree(findings)
    yield "layers", lambda: _profile(ds, findings, variable)
    sides = angle_sides(ds)
    if sides:
        yield "angles", lambda: _angles(ds, findings, pairs, sides[0])
    else:
        yield "angles", "the result keeps no angles: jaxtask compare … --keep angles"
    if "projected" in ds and "spectra" in ds:
        yield "spectra", lambda: _spectra(ds, findings, pairs[0])
    else:
        yield "spectra", "the result keeps no spectra: jaxtask compare … --keep spectra"
    if findings.inclusion is None:
        yield "inclusion", "inclusion was not computed: see the findings' notes"
    elif not findings.inclusion.edges:
        yield "inclusion", "no task was found to include another"
    else:
        yield "inclusion", lambda: _graph(findings)


def _figure(width: float, height: float, **grid: Any) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**grid)


def _groups(findings: "Findings") -> tuple[list[str], list[int]]:
    """Names of the groups, and which one each task has; one without a name where there are none."""
    if not findings.groups:
        return [""], [0] * len(findings.tasks)
    own = [findings.groups.get(task, "no group") for task in findings.tasks]
    names = list(dict.fromkeys(own))
    return names, [names.index(group) for group in own]


def _matrix(findings: "Findings") -> "Figure":
    pooled = findings.pooled[findings.maps.variable]
    order = findings.maps.order
    values = np.array(pooled.values, float)
    np.fill_diagonal(values, np.nan)
    values = values[np.ix_(order, order)]
    T = len(order)
    names = [shorten(findings.tasks[n], 22) for n in order]
    size = max(COLUMN, 0.09 * T + 1)
    figure, axes = _figure(size, size)
    colours = "cividis_r" if pooled.towards == "small" else "cividis"
    image = axes.imshow(values, cmap=colours, interpolation="nearest")
    font = min(7.0, 72 * 0.72 * size / T)
    axes.set_xticks(range(T), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=font)
    axes.set_yticks(range(T), names, fontsize=font)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02, label=findings.maps.variable)
    bar.outline.set_visible(False)
    if T <= _WRITTEN:
        for (i, j), x in np.ndenumerate(values):
            if np.isfinite(x):
                red, green, blue, _ = image.cmap(image.norm(x))
                ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
                axes.text(j, i, f"{x:.3g}", ha="center", va="center", fontsize=6, color=ink)
    return figure


def _scatter(findings: "Findings", at: np.ndarray, shares: np.ndarray, axis: str) -> "Figure":
    names, own = _groups(findings)
    figure, axes = _figure(COLUMN, 0.85 * COLUMN)
    for g, name in enumerate(names):
        here = np.array(own) == g
        axes.scatter(*at[here].T, s=22, marker=_SHAPES[g % 8], color=_COLOURS[g % 8], label=name)
    axes.margins(0.16)
    axes.set_xlabel(f"{axis} 1 ({shares[0]:.0%})")
    axes.set_ylabel(f"{axis} 2 ({shares[1]:.0%})")
    if len(names) > 1:
        figure.legend(loc="outside upper center", ncols=min(3, len(names)))
    if len(findings.tasks) <= _NAMED:
        figure.draw_without_rendering()
        place_labels(axes, at, [shorten(task, 18) for task in findings.tasks], fontsize=6.5)
    return figure


def _tree(findings: "Findings") -> "Figure":
    from scipy.cluster.hierarchy import dendrogram

    made = findings.maps
    T = len(findings.tasks)
    figure, axes = _figure(COLUMN, max(1.2, 0.14 * T + 0.5))
    tree = dendrogram(made.linkage, no_plot=True)
    for height, place in zip(tree["dcoord"], tree["icoord"], strict=True):
        axes.plot(height, (np.array(place) - 5) / 10, color=_QUIET, linewidth=0.9)
    names, own = _groups(findings)
    for n, task in enumerate(tree["leaves"]):
        if len(names) > 1:
            colour, shape = _COLOURS[own[task] % 8], _SHAPES[own[task] % 8]
            axes.plot(0, n, shape, color=colour, markersize=4, clip_on=False)
    axes.set_yticks(range(T), [shorten(findings.tasks[n], 28) for n in tree["leaves"]])
    axes.set_ylim(T - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.tick_params(axis="y", length=0, pad=5)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(made.variable)
    return figure


def _profile(ds: "xr.Dataset", findings: "Findings", variable: str) -> "Figure":
    values, chance = findings.profiles[variable], findings.chance_profiles.get(variable)
    modules = [str(m) for m in ds["module"].values]
    layers = ["outside" if n < 0 else str(n) for n in ds["layer"].values]
    if len(modules) > len(_COLOURS):
        figure, axes = _figure(COLUMN, max(2.0, 0.13 * len(modules)))
        image = axes.imshow(values.T, cmap="cividis", aspect="auto", interpolation="nearest")
        axes.set_yticks(range(len(modules)), [shorten(m, 26) for m in modules])
        figure.colorbar(image, ax=axes, label=variable)
        axes.set_xlabel("layer")
        return figure
    figure, axes = _figure(COLUMN, 0.75 * COLUMN)
    for m, module in enumerate(modules):
        style = {"color": _COLOURS[m], "marker": _SHAPES[m], "markersize": 3}
        axes.plot(values[:, m], label=module, **style)
        if chance is not None:
            axes.plot(chance[:, m], "--", linewidth=0.8, color=_COLOURS[m])
    if chance is not None:
        axes.plot([], [], "--", color=_QUIET, linewidth=0.8, label="chance")
    step = max(1, len(layers) // 12)
    axes.set_xticks(range(0, len(layers), step), layers[::step])
    axes.set_xlabel("layer")
    axes.set_ylabel(f"{variable}, mean over pairs")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def _angles(ds: "xr.Dataset", findings: "Findings", pairs: Sequence[Pair], side: str) -> "Figure":
    """Angles of some pairs, means over layers and modules, against the band of random spans."""
    figure, axes = _figure(COLUMN, 0.75 * COLUMN)
    kept = pair_vectors(ds, f"angles_{side}", pairs)
    bands = Bands(ds)
    cells = [band for pair in pairs for band in bands.of(pair, side) if band is not None]
    if cells:
        size = max(len(bands.bands[b]["mean"]) for b in cells)

        def mean_of(part: str) -> np.ndarray:
            wide = np.full((len(cells), size), np.nan)
            for row, cell in zip(wide, cells, strict=True):
                one = bands.bands[cell][part]
                row[: len(one)] = one
            return np.nanmean(wide, axis=0)

        x = np.arange(1, size + 1)
        low, high = mean_of("low"), mean_of("high")
        axes.fill_between(x, low, high, color="0.85", label="chance, 95%")
        axes.plot(x, mean_of("mean"), "--", color=_QUIET, linewidth=0.9)
    for n, ((i, j), own) in enumerate(zip(pairs, kept, strict=True)):
        mean = _mean_of_cells(own)
        label = f"{shorten(findings.tasks[i], 16)} – {shorten(findings.tasks[j], 16)}"
        style = {"color": _COLOURS[n % 8], "marker": _SHAPES[n % 8], "markersize": 3}
        axes.plot(np.arange(1, len(mean) + 1), mean, label=label, **style)
    axes.set_ylim(0, 1.62)
    axes.set_xlabel(f"principal angle ({side}put side)")
    axes.set_ylabel("radians")
    figure.legend(loc="outside upper center", ncols=1 if len(pairs) < 4 else 2)
    return figure


def _spectra(ds: "xr.Dataset", findings: "Findings", pair: Pair) -> "Figure":
    """S₁ and S₂ in both directions, means over layers and modules: the talk's illustration."""
    figure, axes = _figure(COLUMN, 0.55 * COLUMN, ncols=2, sharey=True)
    own = ds["spectra"].transpose("task", "layer", "module", "component")
    for ax, (source, target) in zip(axes, (pair, pair[::-1]), strict=True):
        spectrum = _mean_of_cells(own.isel(task=source).values)
        projected = _mean_of_cells(pair_vectors(ds, "projected", [(source, target)])[0])
        x = np.arange(1, len(spectrum) + 1)
        ax.bar(x - 0.2, spectrum, 0.4, color=_COLOURS[0], label="$S_1$, source")
        ax.bar(x + 0.2, projected, 0.4, color=_COLOURS[1], hatch="////", edgecolor="white",
               linewidth=0, label="$S_2$, target")  # fmt: skip
        names = [shorten(findings.tasks[n], 16) for n in (source, target)]
        ax.set_title(" → ".join(names), fontsize=7)
        ax.set_xlabel("singular direction")
    axes[0].set_ylabel("singular value")
    axes[0].legend(handlelength=1.2)
    return figure


def _graph(findings: "Findings") -> "Figure":
    layout = layered(findings.inclusion)
    group_of = _groups(findings)[1]
    rows = 1 + max(node.row for node in layout.nodes)
    columns = 1 + max(node.column for node in layout.nodes)
    figure, axes = _figure(max(COLUMN, 1.1 * columns), max(0.8, 0.26 * rows + 0.2))
    texts = []
    for node in layout.nodes:
        group = group_of[node.tasks[0]]
        axes.plot(
            node.column, node.row, _SHAPES[group % 8], color=_COLOURS[group % 8], markersize=4
        )
        name = " = ".join(findings.tasks[task] for task in node.tasks)
        text = axes.annotate(shorten(name, 18), (node.column, node.row), (4, 0), fontsize=7,
                             textcoords="offset points", va="center")  # fmt: skip
        texts.append(text)
    axes.set_xlim(-0.1, columns - 0.2)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.axis("off")
    figure.draw_without_rendering()
    for a, b in layout.edges:
        # From the end of the name to the next node.
        box = texts[a].get_window_extent()
        start = axes.transData.inverted().transform((box.x1 + 2, (box.y0 + box.y1) / 2))
        end = layout.nodes[b]
        axes.annotate("", (end.column, end.row), (start[0], layout.nodes[a].row),
                      arrowprops={"arrowstyle": "-|>", "color": _QUIET, "linewidth": 0.7,
                                  "shrinkA": 0, "shrinkB": 4, "mutation_scale": 7})  # fmt: skip
    return figure


def _mean_of_cells(vectors: np.ndarray) -> np.ndarray:
    """Mean over layers and modules [L, M, r] of each entry that any has; the rest is cut off."""
    flat = vectors.reshape(-1, vectors.shape[-1]).astype(float)
    there = np.isfinite(flat)
    total = flat.sum(axis=0, where=there)
    return total[there.any(axis=0)] / there.sum(axis=0)[there.any(axis=0)]
