"""The loop over modules: read, factor, compare tile by tile, hand the numbers over.

Nothing here is kept between modules but compiled code.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import jax
import numpy as np

from jaxtask.adapters import AdapterBank, ModuleKey, ModuleShape, ModuleStack
from jaxtask.engine.plan import Plan, plan, tiles
from jaxtask.engine.program import Program
from jaxtask.engine.tile import measure_tile
from jaxtask_kernels.factor_rows import FactorRows, factor_rows


@dataclass(frozen=True)
class ModuleResult:
    """All numbers of one module. T is the bank's number of tasks; NaN where a task lacks it."""

    key: ModuleKey
    pairs: Mapping[str, np.ndarray]
    """[T, T] or [T, T, r], source first."""
    valid: np.ndarray
    """[T, T] bool: both there, and neither of rank 0."""
    rank: np.ndarray
    """[T] float64"""
    spectra: np.ndarray
    """[T, r] float64, zero from each rank on."""


def plans(bank: AdapterBank, program: Program, budget: int) -> dict[ModuleKey, Plan]:
    """A plan for every module, the same for all modules of one shape bucket."""
    buckets: dict[tuple[ModuleShape, np.dtype], list[ModuleKey]] = {}
    for key in bank.modules:
        buckets.setdefault((bank.shape(key), bank.dtype(key)), []).append(key)
    found: dict[ModuleKey, Plan] = {}
    for (shape, stored), keys in buckets.items():
        tasks = max(len(bank.present(key)) for key in keys)
        made = plan(shape, tasks, stored, program, budget)
        found |= dict.fromkeys(keys, made)
    return {key: found[key] for key in bank.modules}


def sweep(
    bank: AdapterBank,
    program: Program,
    budget: int,
    rank_rtol: float | None = None,
    tick: Callable[[int], None] = lambda pairs: None,
) -> Iterator[ModuleResult]:
    """Compare all tasks of a bank, module by module.

    Args:
        bank: The adapters.
        program: What to compute.
        budget: Bytes to stay within.
        rank_rtol: See `compare`.
        tick: Told how many unordered pairs each tile has dealt with.

    """
    for key, made in plans(bank, program, budget).items():
        yield _Module(bank, key, made, program, rank_rtol).measure(tick)


class _Module:
    """One module of the bank on its way through the three stages."""

    def __init__(
        self,
        bank: AdapterBank,
        key: ModuleKey,
        plan: Plan,
        program: Program,
        rank_rtol: float | None,
    ) -> None:
        self.bank, self.key, self.plan, self.program = bank, key, plan, program
        self.rank_rtol = rank_rtol
        self.tasks = bank.present(key)
        self.blocks: OrderedDict[int, FactorRows] = OrderedDict()
        total, r = len(bank.tasks), plan.shape.rank
        vectors = program.vectors()
        self.pairs = {
            name: np.full((total, total, *((r,) if name in vectors else ())), np.nan, program.dtype)
            for name in (*program.variables(), *vectors)
        }
        self.rank = np.full(total, np.nan)
        self.spectra = np.full((total, r), np.nan)

    def measure(self, tick: Callable[[int], None]) -> ModuleResult:
        for i, j, pairs in tiles(len(self.tasks), self.plan.block):
            self._store(i, j, pairs, self._tile(i, j, pairs))
            tick(len(pairs))
        live = self.rank > 0
        return ModuleResult(
            self.key, self.pairs, live[:, None] & live[None, :], self.rank, self.spectra
        )

    def _tile(self, i: int, j: int, pairs: np.ndarray) -> dict[str, np.ndarray]:
        # The outer block last, so that it is not what a full cache gives up next.
        cols, rows = self._block(j), self._block(i)
        P = self.plan.pair_chunk
        padded = np.zeros((self.plan.chunks * P, 2), np.int32)
        padded[: len(pairs)] = pairs
        out = measure_tile(
            rows,
            cols,
            padded.reshape(self.plan.chunks, P, 2),
            np.int32(-(-len(pairs) // P)),
            np.bool_(i == j),
            program=self.program,
        )
        return jax.device_get(out)

    def _store(self, i: int, j: int, pairs: np.ndarray, values: dict[str, np.ndarray]) -> None:
        a = self.tasks[i * self.plan.block + pairs[:, 0]]
        b = self.tasks[j * self.plan.block + pairs[:, 1]]
        for name, value in values.items():
            flat = value.reshape(-1, *value.shape[2:])[: len(pairs)]
            there, back = (flat, flat) if self.program.symmetric(name) else (flat[:, 0], flat[:, 1])
            self.pairs[name][a, b] = there
            self.pairs[name][b, a] = back

    def _block(self, index: int) -> FactorRows:
        if index in self.blocks:
            self.blocks.move_to_end(index)
            return self.blocks[index]
        while len(self.blocks) >= self.plan.blocks_kept:
            self.blocks.popitem(last=False)
        first = index * self.plan.block
        tasks = self.tasks[first : first + self.plan.block]
        block = self._factor(self.bank.stack(self.key, tasks), tasks)
        self.rank[tasks] = np.asarray(block.rank)[: len(tasks)]
        self.spectra[tasks] = np.asarray(block.s)[: len(tasks)]
        self.blocks[index] = block
        return block

    def _factor(self, stack: ModuleStack, tasks: np.ndarray) -> FactorRows:
        ranks = np.array([self.bank.adapters[t].shape(self.key).rank for t in tasks])
        rtol = 4 * np.sqrt(ranks) * stack.eps if self.rank_rtol is None else self.rank_rtol
        stack = _padded(stack, self.plan.block)
        return factor_rows(
            stack.B,
            stack.A,
            stack.scale,
            np.resize(rtol, stack.scale.shape),
            dtype=np.dtype(self.program.dtype),
            chunk=self.plan.factor_chunk,
            need_u=self.program.needs("out"),
            need_v=self.program.needs("in"),
        )


def _padded(stack: ModuleStack, n: int) -> ModuleStack:
    """The stack with zero updates up to n, so that a last, shorter block compiles nothing new."""
    short = n - stack.B.shape[0]
    if not short:
        return stack

    def pad(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x, np.zeros((short, *x.shape[1:]), x.dtype)])

    return ModuleStack(pad(stack.B), pad(stack.A), pad(stack.scale), pad(stack.eps))
