"""A metric: a pure function of one pair, and what the engine has to know about it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from jax import Array

from jaxtask.errors import JaxtaskError
from jaxtask.metrics.pair import Pair, Side

SIDES = ("out", "in")
Null = Literal["spaces", "energy", "target", "source", "cosine", "inner", "l2"]


@dataclass(frozen=True)
class Metric:
    """One column of the result, per side if `sided`.

    Two metrics are the same to the compiler if all their fields are equal, so build `function` once
    (at module level) if you want to compile once.

    Attributes:
        name: Name of its variable, or of its two up to ``_out`` and ``_in``; a Python identifier.
        function: A pure, traceable function: `Side → scalar` if sided, else `Pair → scalar`.
        sided: Computed for the output and the input spaces apart.
        symmetric: f(i, j) = f(j, i): computed once per unordered pair.
        angles: Reads principal angles.
        outside: Reads `Side.outside`.
        pooled: Belongs in pooled tables (false for what can be infinite).
        decomposes: May call a matrix decomposition, and so is kept from running beside another one.
        summary: One line for tables.
        params: Passed to `function` after the pair.
        similar: Which values mean that two updates are similar; None if neither does.
        identical: The value for two equal updates, if it is the same for all; not needed for null
            "spaces".
        null: How its null distribution is sampled; None if that is not known. "spaces": two random
            spaces. "energy": random spaces and the target's spectrum. "target": the diagonal of a
            random target's projection, which of the source needs the rank alone. "source": that,
            and the source's spectrum. "cosine", "inner", "l2": the inner product of two random
            updates.
        constant_at_rank_1: Has one value for all sources of rank 1, so that nothing can be tested
            there.

    """

    name: str
    function: Callable[..., Array]
    sided: bool = False
    symmetric: bool = False
    angles: bool = True
    outside: bool = False
    pooled: bool = True
    decomposes: bool = False
    summary: str = ""
    params: tuple[object, ...] = ()
    similar: Literal["large", "small"] | None = None
    identical: float | None = None
    null: Null | None = None
    constant_at_rank_1: bool = False

    def __call__(self, x: Pair | Side) -> Array:
        """The value for one pair, or for one side of it."""
        return self.function(x, *self.params)

    def variables(self, sides: tuple[str, ...]) -> tuple[str, ...]:
        """Names of its variables in a result that has these sides."""
        return tuple(f"{self.name}_{side}" for side in sides) if self.sided else (self.name,)


def metric(
    function: Callable[..., Array],
    *,
    name: str,
    sided: bool = False,
    symmetric: bool = False,
    summary: str = "",
) -> Metric:
    """Make a metric of your own, for the `metrics` list of `compare`.

    Args:
        function: A pure, traceable function of one `Pair` (or of one `Side`, if `sided`) that
            returns a scalar. The engine vmaps it over all pairs and modules.
        name: Variable name in the result, a Python identifier.
        sided: Computed per side; variables are then `<name>_out` and `<name>_in`.
        symmetric: f(i, j) = f(j, i); then it is computed for i ≤ j only and mirrored.
        summary: One line for tables.

    Raises:
        JaxtaskError: `name` is not an identifier.

    """
    if not name.isidentifier():
        raise JaxtaskError(f"metric name {name!r} must be a Python identifier")
    return Metric(name, function, sided, symmetric, outside=True, decomposes=True, summary=summary)


def renamed(base: Metric, name: str, *params: object) -> Metric:
    """`base` with other parameters, under another name."""
    return replace(base, name=name, params=params)
