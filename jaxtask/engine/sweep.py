"""The loop over modules: read, factor, compare tile by tile, hand the numbers over.

Small modules go side by side, a thread each; large ones one by one, with all threads for each.

Nothing here is kept between modules but compiled code and memory to use again.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TypeVar

import jax
import numpy as np

from jaxtask.adapters import AdapterBank, ModuleKey, ModuleShape
from jaxtask.engine.host import Host, modules_at_once
from jaxtask.engine.plan import Plan, plan, tiles, unordered_pairs
from jaxtask.engine.program import Program
from jaxtask_kernels.factor_rows import FactorRows

_T = TypeVar("_T")


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
        threads = modules_at_once(program, shape.rank)
        made = plan(shape, tasks, stored, program, budget, threads)
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
    host = Host(bank, program, rank_rtol)
    made = plans(bank, program, budget)
    for side_by_side, keys in groupby(made, lambda key: made[key].side_by_side):
        modules = (_Module(host, key, made[key]) for key in keys)
        if side_by_side == 1:
            for module in modules:
                yield module.measure(tick)
        else:
            for result in _in_threads(side_by_side, (module.measure for module in modules)):
                tick(unordered_pairs(len(bank.present(result.key))))
                yield result


def _in_threads(threads: int, calls: Iterator[Callable[[], _T]]) -> Iterator[_T]:
    """The results of the calls in their order, so many at a time."""
    wide = bool(jax.config.read("jax_enable_x64"))  # which is a setting of each thread by itself

    def one(call: Callable[[], _T]) -> _T:
        with jax.enable_x64(wide):
            return call()

    with ThreadPoolExecutor(threads, "jaxtask") as pool:
        running = deque(pool.submit(one, call) for call in islice(calls, threads))
        try:
            while running:
                result = running.popleft().result()
                running.extend(pool.submit(one, call) for call in islice(calls, 1))
                yield result
        finally:
            for future in running:
                future.cancel()


class _Module:
    """One module of the bank on its way through the three stages."""

    def __init__(self, host: Host, key: ModuleKey, plan: Plan) -> None:
        self.host, self.key, self.plan, self.program = host, key, plan, host.program
        self.blocks: OrderedDict[int, FactorRows] = OrderedDict()
        self.tasks = host.bank.present(key)
        total, r = len(host.bank.tasks), plan.shape.rank
        vectors = self.program.vectors()
        self.pairs = {
            name: np.full(
                (total, total, *((r,) if name in vectors else ())), np.nan, self.program.dtype
            )
            for name in (*self.program.variables(), *vectors)
        }
        self.rank = np.full(total, np.nan)
        self.spectra = np.full((total, r), np.nan)

    def measure(self, tick: Callable[[int], None] = lambda pairs: None) -> ModuleResult:
        for i, j, pairs in tiles(len(self.tasks), self.plan.block):
            self._store(i, j, pairs, self._tile(i, j, pairs))
            tick(len(pairs))
        self.blocks.clear()
        live = self.rank > 0
        return ModuleResult(
            self.key, self.pairs, live[:, None] & live[None, :], self.rank, self.spectra
        )

    def _tile(self, i: int, j: int, pairs: np.ndarray) -> dict[str, np.ndarray]:
        # The outer block last, so that it is not what a full cache gives up next.
        cols, rows = self._block(j), self._block(i)
        return self.host.measure(rows, cols, pairs, self.plan, diagonal=i == j)

    def _store(self, i: int, j: int, pairs: np.ndarray, values: dict[str, np.ndarray]) -> None:
        a = self.tasks[i * self.plan.block + pairs[:, 0]]
        b = self.tasks[j * self.plan.block + pairs[:, 1]]
        for name, value in values.items():
            there, back = (value, value) if self.program.symmetric(name) else value.swapaxes(0, 1)
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
        block = self.host.factor(self.key, tasks, self.plan)
        self.rank[tasks] = np.asarray(block.rank)[: len(tasks)]
        self.spectra[tasks] = np.asarray(block.s)[: len(tasks)]
        self.blocks[index] = block
        return block
