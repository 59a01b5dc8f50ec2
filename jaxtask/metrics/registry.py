"""All metrics by name, and the choice among them."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from jaxtask.errors import JaxtaskError
from jaxtask.metrics import energy, projection, spaces, vectors
from jaxtask.metrics.metric import Metric

# In the order of the tables.
METRICS: dict[str, Metric] = {
    m.name: m for m in (*spaces.METRICS, *vectors.METRICS, *projection.METRICS, *energy.METRICS)
}


def resolve(metrics: Sequence[str | Metric] | str | None) -> tuple[Metric, ...]:
    """The metrics asked for, in their order.

    Args:
        metrics: Names of the package's metrics, or metrics as they are; all of them for None.

    Raises:
        JaxtaskError: A name is unknown, or two metrics share one.

    """
    if metrics is None:
        return tuple(METRICS.values())
    asked: Any = metrics
    if isinstance(asked, str) or not isinstance(asked, Iterable):
        asked = [asked]
    chosen = tuple(m if isinstance(m, Metric) else _by_name(m) for m in asked)
    if not chosen:
        raise JaxtaskError("no metric was asked for; leave `metrics` out for all of them")
    names = [m.name for m in chosen]
    if twice := next((n for n in names if names.count(n) > 1), None):
        raise JaxtaskError(f"two metrics are named {twice!r}; give one of them another `name`")
    return chosen


def _by_name(name: Any) -> Metric:
    if not isinstance(name, str):
        made = f"jt.metric({getattr(name, '__name__', 'f'):.60}, name=…)"
        what = f"a function; {made} makes a metric of it" if callable(name) else "no name"
        raise JaxtaskError(f"metrics: {name!r:.60} is {what}")
    if name in METRICS:
        return METRICS[name]
    near = difflib.get_close_matches(str(name), METRICS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise JaxtaskError(f"unknown metric {name!r}{hint} (known: {', '.join(METRICS)})")
