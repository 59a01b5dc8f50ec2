"""The metrics: each a pure function of one pair of updates in one module.

Attributes:
    METRICS: Every metric of the package by its name, in the order of the tables.
    SIDES: "out" and "in": the output space (the span of U) and the input space (the span of V).

"""

from jaxtask.metrics.metric import SIDES, Metric, metric
from jaxtask.metrics.pair import Pair, Side
from jaxtask.metrics.projection import (
    entropy_projected,
    entropy_source,
    projected_spectrum,
    rec,
    residual,
    spectral_lp,
)
from jaxtask.metrics.registry import METRICS, resolve

__all__ = [
    "METRICS",
    "SIDES",
    "Metric",
    "Pair",
    "Side",
    "entropy_projected",
    "entropy_source",
    "metric",
    "projected_spectrum",
    "rec",
    "residual",
    "resolve",
    "spectral_lp",
]
