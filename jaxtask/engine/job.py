"""What `compare` was asked for, checked, and the settings of the process that it runs under."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import jax
from threadpoolctl import ThreadpoolController

from jaxtask.adapters import AdapterBank, ModuleKey
from jaxtask.engine.plan import new_pairs
from jaxtask.engine.spec import ComparisonSpec, Padding
from jaxtask.errors import JaxtaskError
from jaxtask.metrics import SIDES, Metric, resolve

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """A comparison that has not begun."""

    bank: AdapterBank
    spec: ComparisonSpec
    rank_rtol: float | None = None
    memory_budget: int | None = None
    command: str | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.memory_budget, int | None):
            raise JaxtaskError(
                f"memory_budget must be a whole number of bytes, got {self.memory_budget!r}"
            )
        if self.rank_rtol is not None and not 0 <= self.rank_rtol < 1:
            raise JaxtaskError(f"rank_rtol must be in [0, 1), got {self.rank_rtol}")


def make_job(
    bank: AdapterBank,
    *,
    metrics: Sequence[str | Metric] | str | None = None,
    sides: Sequence[str] | str = SIDES,
    dtype: str = "float32",
    padding: Padding = "pi/2",
    keep: Sequence[str] | str = (),
    rank_rtol: float | None = None,
    memory_budget: int | None = None,
    command: str | None = None,
    progress: Progress | None = None,
) -> Job:
    """What these arguments of `compare` ask for.

    Raises:
        JaxtaskError: One of them is not known.

    """
    spec = ComparisonSpec(resolve(metrics), _several(sides), dtype, padding, _several(keep))
    return Job(bank, spec, rank_rtol, memory_budget, command, progress)


def _several(names: Sequence[str] | str) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


class Counter:
    """Adds up the pairs that tiles have dealt with, and tells of them."""

    def __init__(self, progress: Progress | None, total: int, done: int = 0) -> None:
        self._progress, self._total, self._done = progress, total, done
        if done:
            self(0)

    def __call__(self, pairs: int) -> None:
        """Add so many."""
        self._done += pairs
        if self._progress is not None:
            self._progress(self._done, self._total)


def pairs_of(bank: AdapterBank, key: ModuleKey, known: int = 0) -> int:
    """Unordered pairs of one module that are to be compared, if the first `known` tasks are not."""
    present = bank.present(key)
    return new_pairs(len(present), int((present < known).sum()))


@contextmanager
def numerics() -> Iterator[None]:
    """Settings of the process for the calls inside; the user's own come back after."""
    with ExitStack() as settings:
        # TPUs emulate float64 and have no decompositions for it.
        if jax.default_backend() != "tpu":
            settings.enter_context(jax.enable_x64(True))
        if jax.default_backend() == "cpu":
            # jaxlib calls LAPACK from every core at once. Where each call asks for all cores again,
            # as it does from 32 columns on, that was 10 to 20 times slower on two cores.
            settings.enter_context(_blas().limit(limits=1))
        yield


@cache
def _blas() -> Any:
    import_module("scipy.linalg.cython_lapack")  # where jaxlib has its LAPACK from
    return ThreadpoolController().select(user_api="blas")
