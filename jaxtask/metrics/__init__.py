"""The vocabulary: one pure function a metric, of one pair of updates in one module."""

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
