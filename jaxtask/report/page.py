"""The report as one HTML file, with all it needs inside: it opens without a network."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtask.errors import ReportError
from jaxtask.folders import check_parent, new_file
from jaxtask.report import sections
from jaxtask.report.page_data import mapped_variables, page_data
from jaxtask.report.pairs import telling_pairs
from jaxtask.terminal import visible

if TYPE_CHECKING:
    import xarray as xr

    from jaxtask.analysis.findings import Findings
    from jaxtask.report.pairs import Pair

# What a page is told by, so that no other file is replaced, and in how many bytes it comes.
_MARK, _HEAD = b'<meta name="generator" content="jaxtask report">', 4096
_SCRIPTS = (
    "data.js",
    "draw.js",
    "choices.js",
    "matrix.js",
    "maps.js",
    "pairs.js",
    "layers.js",
    "page.js",
)


def write_page(
    ds: "xr.Dataset",
    findings: "Findings",
    path: Path,
    *,
    pairs: Sequence["Pair"] | None = None,
    with_maps: Sequence[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write the page, whole or not at all.

    Args:
        ds: A result of `compare`.
        findings: What was found in it.
        path: The HTML file.
        pairs: Pairs of tasks, by their numbers, that are shown one by one; `telling_pairs` by
            default.
        with_maps: Variables whose values of single layers and modules are in the page; as many as
            have room by default.
        overwrite: Replace a file that is there.

    Raises:
        ReportError: The file is there or cannot be made; `with_maps` names what is not pooled.

    """
    check_file(path, overwrite=overwrite)
    known = list(findings.pooled)
    chosen = mapped_variables(ds, known) if with_maps is None else list(with_maps)
    check_variables(chosen, known)
    text = render(ds, findings, telling_pairs(findings) if pairs is None else pairs, chosen)
    try:
        with new_file(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise ReportError(f"{path} cannot be written: {error.strerror}") from error


def check_variables(names: Sequence[str], known: Sequence[str]) -> None:
    """Raise a `ReportError` unless all names are of pooled variables that are known."""
    for name in names:
        if name not in known:
            raise ReportError(f"no pooled variable {name!r} in this result: {', '.join(known)}")


def check_file(path: Path, *, overwrite: bool) -> None:
    """Raise a `ReportError` unless a file may be written at `path`."""
    check_parent(path, ReportError)
    if path.is_dir():
        raise ReportError(f"cannot write {path}: it is a folder")
    if not path.exists():
        return
    if not overwrite:
        raise ReportError(f"{path} exists; give overwrite=True to replace it")
    if not _is_page(path):
        raise ReportError(f"{path} exists and is no report; it is left alone")


def _is_page(path: Path) -> bool:
    """Whether a file is a page that was written here."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return _MARK in file.read(_HEAD)
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror}") from error


def render(
    ds: "xr.Dataset", findings: "Findings", pairs: Sequence["Pair"], with_maps: Sequence[str]
) -> str:
    """The page as text.

    Args:
        ds: A result of `compare`.
        findings: What was found in it.
        pairs: Pairs (source, target) of tasks, by their numbers, that are shown one by one.
        with_maps: Variables whose values of single layers and modules are in the page.

    """
    import jinja2
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else _shown(value),
    )
    template = environment.from_string(_asset("page.html"))
    return template.render(
        **sections.texts(ds, findings, pairs, with_maps),
        style=Markup(_asset("page.css")),
        data=Markup(_script_json(_shown(page_data(ds, findings, pairs, with_maps)))),
        plotly=Markup(get_plotlyjs()),
        script=Markup("\n".join(_asset(name) for name in _SCRIPTS)),
    )


def _asset(name: str) -> str:
    return (files("jaxtask.report") / "assets" / name).read_text(encoding="utf-8")


def _shown(value: Any) -> Any:
    """`value` with all text in it `visible`."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {_shown(key): _shown(item) for key, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list | tuple) else value


def _script_json(data: Mapping[str, Any]) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
