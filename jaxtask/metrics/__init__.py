"""The vocabulary: one pure function a metric, of one pair of updates in one module."""

from jaxtask.metrics.metric import SIDES as SIDES
from jaxtask.metrics.metric import Metric as Metric
from jaxtask.metrics.metric import metric as metric
from jaxtask.metrics.pair import Pair as Pair
from jaxtask.metrics.pair import Side as Side
from jaxtask.metrics.projection import entropy_projected as entropy_projected
from jaxtask.metrics.projection import entropy_source as entropy_source
from jaxtask.metrics.projection import projected_spectrum as projected_spectrum
from jaxtask.metrics.projection import rec as rec
from jaxtask.metrics.projection import residual as residual
from jaxtask.metrics.projection import spectral_lp as spectral_lp
from jaxtask.metrics.registry import METRICS as METRICS
from jaxtask.metrics.registry import resolve as resolve
