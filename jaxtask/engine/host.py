"""The three stages for the blocks of one module, by the fastest means there are.

On CPU the first two, factor and Gram, are native code on arrays in main memory, which reads the
factors where the bank has them. The third, and on other devices or without native code all of them,
are compiled programs.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxtask.adapters import AdapterBank, ModuleEntry, ModuleKey, ModuleStack
from jaxtask.engine.devices import measure_side_by_side
from jaxtask.engine.memory import Memory
from jaxtask.engine.plan import Plan
from jaxtask.engine.program import Program
from jaxtask.engine.tile import Grams, measure_tile
from jaxtask_kernels import native
from jaxtask_kernels.factor_rows import CHOLESKY_KAPPA, FactorRows, factor_rows

# Held while a compiled program runs that may have LAPACK's decompositions in it, by every
# comparison of the process.
_ONE_AT_A_TIME = Lock()


def runs_natively() -> bool:
    """Whether arrays in main memory are where the device computes, and native code is there."""
    return jax.default_backend() == "cpu" and native.native().library is not None


def modules_at_once(program: Program, r: int) -> int:
    """How many threads may run compiled programs: one if several devices do."""
    return native.threads() if _may_meet(program, r) and tiles_at_once(program, r) == 1 else 1


def tiles_at_once(program: Program, r: int) -> int:
    """How many of this process's devices compare tiles at the same time."""
    on_cpu = jax.default_backend() == "cpu"
    return 1 if on_cpu and not _may_meet(program, r) else jax.local_device_count()


def _may_meet(program: Program, r: int) -> bool:
    """Whether compiled programs may run at once on CPU: not if LAPACK's decompositions are in them.

    See `after` on what happens if those meet.
    """
    lapack = program.dtype != "float32" or r > native.LARGEST
    lapack |= any(metric.decomposes for metric in program.metrics)
    return runs_natively() and not lapack


class Tile(NamedTuple):
    """Two blocks to compare."""

    rows: FactorRows
    cols: FactorRows
    pairs: np.ndarray
    """[n, 2] int32, places in rows and in cols"""
    diagonal: bool
    """Whether the two blocks are one."""


class Host:
    """A bank, what to compute of it, and by what means. Any number of threads may call it."""

    def __init__(self, bank: AdapterBank, program: Program, rank_rtol: float | None) -> None:
        self.bank, self.program, self.rank_rtol = bank, program, rank_rtol
        self._memory = Memory()
        self._native = runs_natively()
        self._compiled: set[tuple[Any, ...]] = set()

    def factor(
        self, key: ModuleKey, tasks: np.ndarray, plan: Plan, size: int | None = None
    ) -> FactorRows:
        """Thin SVDs of one module of up to `size` tasks, padded with zeros to so many.

        `size` is `plan.block` by default.
        """
        size = plan.block if size is None else size
        entries = [self.bank.adapters[task].entry(key) for task in tasks]
        rtol = self._rtol(entries)
        if not self._native or self.program.dtype != "float32":
            return self._factor_compiled(key, tasks, rtol, plan, size)
        found = self._factor_natively(entries, rtol, plan, size)
        if not found.fine.all():
            # Ill-conditioned ones again, with care.
            at = np.flatnonzero(~found.fine)
            again = self._factor_compiled(key, tasks[at], rtol[at], plan, size)
            for kept, new in zip(found[:4], again, strict=True):
                if kept is not None:
                    kept[at] = np.asarray(new)[: len(at)]
        return FactorRows(*found[:4])  # type: ignore[arg-type]  # NumPy's arrays serve as well

    @property
    def ahead(self) -> int:
        """How many groups of tiles may be under way while the next one is prepared."""
        return 0 if jax.default_backend() == "cpu" else 1

    def measure(self, tile: Tile, plan: Plan) -> dict[str, np.ndarray]:
        """`measure_tile` of the tile's pairs, [n] or [n, 2] for every variable."""
        return self.start([tile], plan)()[0]

    def start(self, tiles: Sequence[Tile], plan: Plan) -> Callable[[], list[dict[str, np.ndarray]]]:
        """Start to measure as many tiles of equal shapes as there are devices, or fewer.

        Returns:
            What waits for the numbers of each. On CPU they are there already.

        """
        arguments = [self._arguments(tile, plan) for tile in tiles]

        def launch() -> dict[str, Array]:
            if plan.devices == 1:
                return measure_tile(*arguments[0], program=self.program)
            return measure_side_by_side(arguments, self.program)

        def numbers(found: dict[str, Array]) -> list[dict[str, np.ndarray]]:
            there = jax.device_get(found)
            if plan.devices == 1:
                there = {name: x[None] for name, x in there.items()}
            return [
                {k: x[n].reshape(-1, *x.shape[3:])[: len(tile.pairs)] for k, x in there.items()}
                for n, tile in enumerate(tiles)
            ]

        if self.ahead:
            return partial(numbers, launch())
        compiled = plan, *(x.s.shape for x in tiles[0][:2])
        if compiled in self._compiled and plan.side_by_side > 1:
            found = numbers(launch())
        else:
            with _ONE_AT_A_TIME:
                found = numbers(launch())
                self._compiled.add(compiled)
        return lambda: found

    def _arguments(self, tile: Tile, plan: Plan) -> tuple[Any, ...]:
        chunks, chunk = plan.steps(tile.rows.s.shape[0], tile.cols.s.shape[0])
        pairs = np.zeros((chunks * chunk, 2), np.int32)
        pairs[: len(tile.pairs)] = tile.pairs
        return (
            tile.rows,
            tile.cols,
            self.grams(tile.rows, tile.cols, plan),
            pairs.reshape(chunks, chunk, 2),
            np.int32(-(-len(tile.pairs) // chunk)),
            np.bool_(tile.diagonal),
        )

    def grams(self, rows: FactorRows, cols: FactorRows, plan: Plan) -> Grams:
        """Gram blocks of a tile, or None where its compiled program computes its own."""
        if not self._native:
            return None
        threads = native.threads() // plan.side_by_side

        def gram(X: Array | np.ndarray, Y: Array | np.ndarray) -> np.ndarray:
            X = np.asarray(X)
            Y = X if rows is cols else np.asarray(Y)
            return native.gram_rows(X, Y, threads=threads, empty=self._memory.empty)

        sides = ((rows.U, cols.U), (rows.V, cols.V))
        return tuple(None if X is None or Y is None else gram(X, Y) for X, Y in sides)

    def _rtol(self, entries: list[ModuleEntry]) -> np.ndarray:
        if self.rank_rtol is not None:
            return np.full(len(entries), self.rank_rtol)
        ranks = np.array([entry.B.shape[1] for entry in entries])
        return 4 * np.sqrt(ranks) * np.array([entry.eps for entry in entries])

    def _factor_natively(
        self, entries: list[ModuleEntry], rtol: np.ndarray, plan: Plan, size: int
    ) -> native.Factored:
        updates = [entry.load() for entry in entries]
        return native.factor_updates(
            [update.B for update in updates],
            [update.A for update in updates],
            plan.stored,
            np.array([update.scale for update in updates]),
            rtol,
            shape=(size, plan.shape.rank),
            kappa=CHOLESKY_KAPPA,
            need_u=self.program.needs("out"),
            need_v=self.program.needs("in"),
            threads=native.threads() // plan.side_by_side,
            empty=self._memory.empty,
        )

    def _factor_compiled(
        self, key: ModuleKey, tasks: np.ndarray, rtol: np.ndarray, plan: Plan, size: int
    ) -> FactorRows:
        stack = _padded(self.bank.stack(key, tasks), size)

        def launch() -> FactorRows:
            return factor_rows(
                stack.B,
                stack.A,
                stack.scale,
                np.resize(rtol, stack.scale.shape),
                dtype=np.dtype(self.program.dtype),
                chunk=math.gcd(size, plan.factor_chunk),
                need_u=self.program.needs("out"),
                need_v=self.program.needs("in"),
            )

        if self.ahead:
            return launch()
        with _ONE_AT_A_TIME:
            return jax.block_until_ready(launch())


def _padded(stack: ModuleStack, n: int) -> ModuleStack:
    """The stack with zero updates up to n, so that a last, shorter block compiles nothing new."""
    short = n - stack.B.shape[0]
    if not short:
        return stack

    def pad(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x, np.zeros((short, *x.shape[1:]), x.dtype)])

    return ModuleStack(pad(stack.B), pad(stack.A), pad(stack.scale), pad(stack.eps))
