"""What each figure shows, drawn by Matplotlib; sizes in inches, for a column of a paper."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxtask.report.graph import Layout
from jaxtask.report.labels import place_labels, short_names, shorten
from jaxtask.report.pairs import Bands, Pair, pair_vectors

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from jaxtask.analysis.findings import Findings
    from jaxtask.analysis.maps import Maps

COLUMN = 3.5
"""A column of most two-column papers."""

# Okabe and Ito's colours, which colour-blind people tell apart, and shapes that say the same again.
_COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C", "#B8A800",
)  # fmt: skip
_SHAPES = ("o", "s", "D", "^", "X", "*", "h", "P")
_QUIET = "0.45"
# Above this many tasks, numbers are not written into cells, nor names at points.
_WRITTEN, _NAMED = 9, 30


def _figure(width: float, height: float, **grid: Any) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**grid)


def _groups(findings: "Findings") -> tuple[list[str], list[int]]:
    """Names of the groups, and which one each task has; one without a name where there are none."""
    if not findings.groups:
        return [""], [0] * len(findings.tasks)
    own = [shorten(findings.groups.get(task, "no group"), 40) for task in findings.tasks]
    names = list(dict.fromkeys(own))
    return names, [names.index(group) for group in own]


def _mark(group: int) -> tuple[str, str]:
    """Colour and shape; 64 groups differ in one or both."""
    return _COLOURS[group % 8], _SHAPES[(group + group // 8) % 8]


def matrix(findings: "Findings", variable: str) -> "Figure":
    """The pooled values of all pairs, near tasks beside each other."""
    T = len(findings.tasks)
    pooled = findings.pooled[variable]
    order = np.arange(T) if findings.maps is None else findings.maps.order
    values = np.array(pooled.values, float)
    np.fill_diagonal(values, np.nan)
    values = values[np.ix_(order, order)]
    short = short_names(findings.tasks, 22)
    names = [short[n] for n in order]
    size = max(COLUMN, 0.09 * T + 1.3)
    figure, axes = _figure(size, size)
    image = axes.imshow(values, cmap=_colour_map(pooled.towards), interpolation="nearest")
    font = min(7.0, 72 * 0.7 * size / T)
    axes.set_xticks(range(T), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=font)
    axes.set_yticks(range(T), names, fontsize=font)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03, label=variable)
    bar.outline.set_visible(False)
    if T <= _WRITTEN:
        for (i, j), x in np.ndenumerate(values):
            if np.isfinite(x):
                red, green, blue, _ = image.cmap(image.norm(x))
                ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
                axes.text(j, i, f"{x:.3g}", ha="center", va="center", fontsize=6, color=ink)
    return figure


def _colour_map(towards: str | None) -> str:
    """Bright is alike."""
    return "cividis_r" if towards == "small" else "cividis"


def scatter(findings: "Findings", at: np.ndarray, shares: np.ndarray, axis: str) -> "Figure":
    """Tasks at coordinates [T, 2], by group."""
    names, own = _groups(findings)
    figure, axes = _figure(COLUMN, 0.85 * COLUMN)
    for g, name in enumerate(names):
        here = np.array(own) == g
        colour, shape = _mark(g)
        axes.scatter(*at[here].T, s=22, marker=shape, color=colour, label=name)
    axes.margins(0.16)
    axes.set_xlabel(f"{axis} 1 ({shares[0]:.0%})")
    axes.set_ylabel(f"{axis} 2 ({shares[1]:.0%})")
    if len(names) > 1:
        figure.legend(loc="outside upper center", ncols=min(3, len(names)))
    if len(findings.tasks) <= _NAMED:
        figure.draw_without_rendering()
        place_labels(axes, at, short_names(findings.tasks, 18), fontsize=6.5)
    return figure


def tree(findings: "Findings", maps: "Maps") -> "Figure":
    """The clusters, from the height of the first join."""
    from scipy.cluster.hierarchy import dendrogram

    T = len(findings.tasks)
    figure, axes = _figure(COLUMN, max(1.2, 0.14 * T + 0.5))
    drawn = dendrogram(maps.linkage, no_plot=True)
    low, high = maps.linkage[0, 2], maps.linkage[-1, 2]
    # Where the first join stands near the last one, an axis from zero would show nothing else.
    start = max(0.0, low - 0.25 * (high - low or high))
    for height, place in zip(drawn["dcoord"], drawn["icoord"], strict=True):
        # SciPy sets leaf n at 10·n + 5.
        at = (np.array(place) - 5) / 10
        axes.plot(np.maximum(height, start), at, color=_QUIET, linewidth=0.9)
    names, own = _groups(findings)
    if len(names) > 1:
        for n, task in enumerate(drawn["leaves"]):
            colour, shape = _mark(own[task])
            axes.plot(start, n, shape, color=colour, markersize=4, clip_on=False)
    short = short_names(findings.tasks, 28)
    axes.set_yticks(range(T), [short[n] for n in drawn["leaves"]])
    axes.set_ylim(T - 0.5, -0.5)
    axes.set_xlim(left=start)
    axes.tick_params(axis="y", length=0, pad=5)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(maps.variable)
    return figure


def profile(ds: "xr.Dataset", findings: "Findings", variable: str) -> "Figure":
    """Means over pairs by layer and module, beside null means."""
    values, chance = findings.profiles[variable], findings.chance_profiles.get(variable)
    modules = [str(m) for m in ds["module"].values]
    layers = ["outside" if n < 0 else str(n) for n in ds["layer"].values]
    step = -(-len(layers) // 12)
    if len(modules) > len(_COLOURS):
        figure, axes = _figure(COLUMN, max(2.0, 0.13 * len(modules)))
        colours = _colour_map(findings.pooled[variable].towards)
        image = axes.imshow(values.T, cmap=colours, aspect="auto", interpolation="nearest")
        axes.set_yticks(range(len(modules)), short_names(modules, 26))
        figure.colorbar(image, ax=axes, label=f"{variable}, mean over pairs")
    else:
        figure, axes = _figure(COLUMN, 0.8 * COLUMN)
        for m, module in enumerate(modules):
            style = {"color": _COLOURS[m], "marker": _SHAPES[m], "markersize": 3}
            axes.plot(values[:, m], label=module, **style)
            if chance is not None:
                # A line of one point shows only by its mark.
                mark = "_" if len(layers) == 1 else ""
                axes.plot(chance[:, m], "--", marker=mark, linewidth=0.8, color=_COLOURS[m])
        if chance is not None:
            axes.plot([], [], "--", color=_QUIET, linewidth=0.8, label="null mean")
        axes.set_ylabel(f"{variable}, mean over pairs")
        figure.legend(loc="outside upper center", ncols=2)
    axes.set_xticks(range(0, len(layers), step), layers[::step])
    axes.set_xlabel("layer")
    return figure


def angles(ds: "xr.Dataset", findings: "Findings", pairs: Sequence[Pair], side: str) -> "Figure":
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
        axes.fill_between(x, low, high, color="0.85", label="null, 95% of single modules")
        axes.plot(x, mean_of("mean"), "--", color=_QUIET, linewidth=0.9)
    for n, ((i, j), own) in enumerate(zip(pairs, kept, strict=True)):
        mean = _mean_of_cells(own)
        label = f"{shorten(findings.tasks[i], 16)} – {shorten(findings.tasks[j], 16)}"
        style = {"color": _COLOURS[n % 8], "marker": _SHAPES[n % 8], "markersize": 3}
        axes.plot(np.arange(1, len(mean) + 1), mean, label=label, **style)
    axes.set_ylim(0, 1.62)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel(f"principal angle ({side}put side)")
    axes.set_ylabel("radians")
    figure.legend(loc="outside upper center", ncols=1 if len(pairs) < 4 else 2)
    return figure


def spectra(ds: "xr.Dataset", findings: "Findings", pair: Pair) -> "Figure":
    """S₁ and S₂ in both directions, means over layers and modules: the talk's illustration."""
    figure, both = _figure(COLUMN, 0.6 * COLUMN, ncols=2, sharey=True)
    own = ds["spectra"].transpose("task", "layer", "module", "component")
    for axes, (source, target) in zip(both, (pair, pair[::-1]), strict=True):
        spectrum = _mean_of_cells(own.isel(task=source).values)
        projected = _mean_of_cells(pair_vectors(ds, "projected", [(source, target)])[0])
        x = np.arange(1, len(spectrum) + 1)
        axes.bar(x - 0.2, spectrum, 0.4, color=_COLOURS[0], label="S₁ of the source")
        axes.bar(x[: len(projected)] + 0.2, projected, 0.4, color=_COLOURS[1], hatch="/////",
                 edgecolor="white", linewidth=0, label="S₂ of the target")  # fmt: skip
        axes.set_title("\n→ ".join(shorten(findings.tasks[n], 24) for n in (source, target)))
        axes.set_xticks(x[:: -(-len(x) // 8)])
        axes.set_xlabel("singular direction")
    both[0].set_ylabel("singular value")
    figure.legend(*both[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def graph(findings: "Findings", layout: Layout) -> "Figure":
    """What includes what, from left to right; "+2" are two further tasks that are equal."""
    own = _groups(findings)[1]
    rows = 1 + max(node.row for node in layout.nodes)
    columns = 1 + max(node.column for node in layout.nodes)
    figure, axes = _figure(max(COLUMN, 1.1 * columns), max(0.8, 0.26 * rows + 0.2))
    short = short_names(findings.tasks, 18)
    texts = []
    for node in layout.nodes:
        first, *others = node.tasks
        name = f"{short[first]} +{len(others)}" if others else short[first]
        colour, shape = _mark(own[first])
        axes.plot(node.column, node.row, shape, color=colour, markersize=4, zorder=3)
        # On white, since arrows of other tasks pass below names.
        text = axes.annotate(name, (node.column, node.row), (4, 0), fontsize=7,
                             textcoords="offset points", va="center", zorder=3,
                             bbox={"color": "white", "pad": 0.6})  # fmt: skip
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
        axes.annotate("", (end.column, end.row), (start[0], layout.nodes[a].row), zorder=2,
                      arrowprops={"arrowstyle": "-|>", "color": _QUIET, "linewidth": 0.7,
                                  "shrinkA": 0, "shrinkB": 4, "mutation_scale": 7})  # fmt: skip
    return figure


def _mean_of_cells(vectors: np.ndarray) -> np.ndarray:
    """Mean over layers and modules [L, M, r] of each entry that any has; the rest is cut off."""
    flat = vectors.reshape(-1, vectors.shape[-1]).astype(float)
    there = np.isfinite(flat)
    total = flat.sum(axis=0, where=there)
    return total[there.any(axis=0)] / there.sum(axis=0)[there.any(axis=0)]
