"""The report as one HTML file, with all it needs inside: it opens without a network."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jaxtask.report import sections
from jaxtask.report.page_data import page_data

if TYPE_CHECKING:
    import xarray as xr

    from jaxtask.analysis.findings import Findings
    from jaxtask.report.pairs import Pair

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
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_asset("page.html"))
    return template.render(
        **sections.texts(ds, findings, pairs),
        style=Markup(_asset("page.css")),
        data=Markup(_script_json(page_data(ds, findings, pairs, with_maps))),
        plotly=Markup(get_plotlyjs()),
        script=Markup("\n".join(_asset(name) for name in _SCRIPTS)),
    )


def _asset(name: str) -> str:
    return (files("jaxtask.report") / "assets" / name).read_text(encoding="utf-8")


def _script_json(data: Mapping[str, Any]) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
