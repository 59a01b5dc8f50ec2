"""Figures for papers, by Matplotlib: which there are, and files of them."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtask.errors import ReportError
from jaxtask.folders import check_parent, check_replaceable, new_folder
from jaxtask.report.graph import layered
from jaxtask.report.pairs import Pair, angle_sides, has_spectra, telling_pairs, telling_variable

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from jaxtask.analysis.findings import Findings

FORMATS = ("pdf", "png", "svg")
NAMES = ("matrix", "pca", "mds", "clusters", "layers", "angles", "spectra", "inclusion")
FILES = tuple(f"{name}.{form}" for name in NAMES for form in FORMATS)
"""All that a folder of figures may hold."""

# Lines of more pairs than this hide each other.
_PAIRS = 3
# Of any type, since Matplotlib types the names one by one.
_STYLE: Any = {
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
    # One result has one figure, to the last byte.
    "svg.hashsalt": "jaxtask",
    # A dollar in a task's name is a dollar.
    "text.parse_math": False,
}


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
        pairs: Pairs of tasks, by their numbers: the angles of the first three are drawn, and the
            spectra of the first; the most telling by default.

    Returns:
        By name of a figure its file's name, or why it was not drawn.

    """
    import matplotlib

    chosen = telling_pairs(findings) if pairs is None else list(pairs)
    told = {}
    # Neither the user's settings nor an open window have a say.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        for name, draw in _figures(ds, findings, chosen):
            if isinstance(draw, str):
                told[name] = f"not drawn: {draw}"
                continue
            file = f"{name}.{format}"
            date = {"pdf": "CreationDate", "svg": "Date"}.get(format)
            draw().savefig(
                folder / file,
                bbox_inches="tight",
                pad_inches=0.02,
                metadata=None if date is None else {date: None},
            )
            told[name] = file
    return told


def write_figures(
    ds: "xr.Dataset",
    findings: "Findings",
    folder: Path,
    format: str,
    *,
    pairs: Sequence[Pair] | None = None,
    overwrite: bool = False,
) -> dict[str, str]:
    """Draw the figures into a folder of their own, all of them or none.

    Args:
        ds: A result of `compare`.
        findings: What was found in it.
        folder: Is made.
        format: See `draw_figures`, as for `pairs` and for what is returned.
        pairs: See `draw_figures`.
        overwrite: Replace a folder that holds figures and nothing else.

    Raises:
        ReportError: See `check_figures`.

    """
    check_figures(folder, overwrite=overwrite)
    try:
        with new_folder(folder, FILES) as draft:
            return draw_figures(ds, findings, draft, format, pairs)
    except OSError as error:
        raise ReportError(f"{folder} cannot be written: {error.strerror}") from error


def check_figures(folder: Path, *, overwrite: bool) -> None:
    """Raise a `ReportError` unless figures may be written to `folder`."""
    check_parent(folder, ReportError)
    check_replaceable(folder, "a folder of figures", ReportError, ours=FILES, overwrite=overwrite)


def _figures(
    ds: "xr.Dataset", findings: "Findings", pairs: Sequence[Pair]
) -> Iterator[tuple[str, "Callable[[], Figure] | str"]]:
    """Each figure's name, and what draws it or why nothing does."""
    from jaxtask.report import plots

    variable = telling_variable(findings)
    yield "matrix", partial(plots.matrix, findings, variable)
    maps = findings.maps
    if maps is None:
        for name in ("pca", "mds", "clusters"):
            yield name, "the result has no distance: jaxtask compare … --metrics grassmann"
    else:
        yield "pca", partial(plots.scatter, findings, maps.pca, maps.pca_shares, "component")
        yield "mds", partial(plots.scatter, findings, maps.mds, maps.mds_shares, "dimension")
        yield "clusters", partial(plots.tree, findings, maps)
    yield "layers", partial(plots.profile, ds, findings, variable)
    if sides := angle_sides(ds):
        yield "angles", partial(plots.angles, ds, findings, pairs[:_PAIRS], sides[0])
    else:
        yield "angles", "the result keeps no angles: jaxtask compare … --keep angles"
    if has_spectra(ds):
        some = (ds["rank"] > 0).any(("layer", "module")).values
        shown = next((pair for pair in pairs if some[list(pair)].all()), None)
        if shown is None:
            yield "spectra", "one update of each pair is zero, and has no spectrum"
        else:
            yield "spectra", partial(plots.spectra, ds, findings, shown)
    else:
        yield "spectra", "the result keeps no spectra: jaxtask compare … --keep spectra"
    layout = layered(findings.inclusion)
    if layout is not None:
        yield "inclusion", partial(plots.graph, findings, layout)
    elif findings.inclusion is None:
        yield "inclusion", "not tested: jaxtask compare … --metrics energy_core,rec,residual"
    else:
        yield "inclusion", "no task was found to include another"
