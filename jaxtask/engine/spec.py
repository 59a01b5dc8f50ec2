"""What a comparison computes: the choices that the compiled program depends on, and no arrays."""

from dataclasses import dataclass
from typing import Literal

from jaxtask.errors import JaxtaskError
from jaxtask.metrics import SIDES, Metric

Padding = Literal["pi/2", "none"]
PADDINGS = ("pi/2", "none")
DTYPES = ("float32", "float64")
KEEPABLE = ("angles", "spectra", "chance")

# What every result has of its own: coordinates, quantities of single tasks and of modules.
_RESERVED = {"layer", "module", "source", "target", "task", "component"}
_RESERVED |= {"frobenius", "rank", "gap", "valid", "spectra", "d_out", "d_in"}


@dataclass(frozen=True)
class ComparisonSpec:
    """A hashable description of the pair stage, static under jit."""

    metrics: tuple[Metric, ...]
    sides: tuple[str, ...] = SIDES
    dtype: str = "float32"
    padding: Padding = "pi/2"
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check("side", self.sides, SIDES)
        _check("dtype", (self.dtype,), DTYPES)
        _check("padding", (self.padding,), PADDINGS)
        _check("keep", self.keep, KEEPABLE)
        if not self.sides:
            raise JaxtaskError("`sides` is empty; expected out, in or both")
        taken = {*_RESERVED, *self.vectors(), *self.null_variables()}
        for metric in self.metrics:
            for name in metric.variables(self.sides):
                if name in taken:
                    raise JaxtaskError(
                        f"metric {metric.name!r} makes a variable {name!r}, which the result has "
                        "already; give it another name"
                    )
                taken.add(name)

    @property
    def spectral(self) -> bool:
        """Whether anything needs both sides at once."""
        return "spectra" in self.keep or any(not m.sided for m in self.metrics)

    def needs(self, side: str) -> bool:
        """Whether the bases of this side are needed."""
        return side in self.sides or self.spectral

    def needs_angles(self, side: str) -> bool:
        """Whether principal angles of this side are needed."""
        sided = side in self.sides and ("angles" in self.keep or self._any(True, "angles"))
        return sided or self._any(False, "angles")

    def needs_outside(self, side: str) -> bool:
        """Whether `Side.outside` of this side is needed."""
        return (side in self.sides and self._any(True, "outside")) or self._any(False, "outside")

    def needs_cosines(self, side: str) -> bool:
        """Whether singular values of this side's Gram blocks are needed."""
        return self.needs_angles(side) or self.needs_outside(side)

    def _any(self, sided: bool, need: str) -> bool:
        return any(getattr(m, need) for m in self.metrics if m.sided == sided)

    def variables(self) -> dict[str, Metric]:
        """Metric of every scalar pair variable, in order."""
        return {name: m for m in self.metrics for name in m.variables(self.sides)}

    def vectors(self) -> dict[str, bool]:
        """Every kept vector-valued pair variable, and whether it is symmetric."""
        kept: dict[str, bool] = {}
        if "angles" in self.keep:
            kept |= {f"angles_{side}": True for side in self.sides}
        if "spectra" in self.keep:
            kept["projected"] = False
        return kept

    def null_variables(self) -> dict[str, str]:
        """Every variable of a metric's null distribution, and what it is; see `null_moments`."""
        found: dict[str, str] = {}
        for metric in self.tested():
            found[f"{metric.name}_chance"] = f"{metric.name}: mean over random output spaces"
            found[f"{metric.name}_chance_sd"] = f"{metric.name}: their standard deviation"
        return found

    def tested(self) -> tuple[Metric, ...]:
        """The metrics whose null distribution is computed: of both sides, without angles."""
        if "chance" not in self.keep:
            return ()
        return tuple(m for m in self.metrics if not (m.sided or m.angles))

    def symmetric(self, variable: str) -> bool:
        """Whether a pair variable is computed once per unordered pair."""
        if variable in self.null_variables():
            return False
        vectors = self.vectors()
        return vectors[variable] if variable in vectors else self.variables()[variable].symmetric


def _check(what: str, values: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    for value in values:
        if value not in allowed:
            raise JaxtaskError(f"unknown {what} {value!r}; expected one of {', '.join(allowed)}")
