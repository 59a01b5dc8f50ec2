"""The loop over modules: read, factor, compare tile by tile, hand the numbers over.

Small modules go side by side, a thread each; large ones one by one, with all threads for each.
Where there are several devices, so many tiles are compared at once, of one module or more. While an
accelerator compares tiles, the next ones are read and sent.

Nothing here is kept between modules but compiled code and memory to use again.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import TypeVar

import jax
import numpy as np
from jax import Array

from jaxtask.adapters import AdapterBank, ModuleKey, ModuleShape
from jaxtask.engine import plan as planning
from jaxtask.engine.backend import Host, Tile, memory_of_a_device, modules_at_once, tiles_at_once
from jaxtask.engine.plan import Plan, new_pairs, plan, tiles
from jaxtask.engine.spec import ComparisonSpec
from jaxtask_kernels.factor_rows import FactorRows

_T = TypeVar("_T")


@dataclass(frozen=True)
class ModuleResult:
    """All numbers of one module. T is the bank's number of tasks; NaN where a task lacks it."""

    key: ModuleKey
    shape: ModuleShape
    pairs: Mapping[str, np.ndarray]
    """[T, T] or [T, T, r], source first."""
    valid: np.ndarray
    """[T, T] bool: both there, and neither of rank 0."""
    rank: np.ndarray
    """[T] float64"""
    spectra: np.ndarray
    """[T, r] float64, zero from each rank on."""


def plans(
    bank: AdapterBank, spec: ComparisonSpec, budget: int, known: int = 0
) -> dict[ModuleKey, Plan]:
    """A plan for every module, the same for all modules of one shape bucket, which come together.

    `known` is how many tasks, the first, have been compared with each other before.
    """
    sizes = planning.CPU if jax.default_backend() == "cpu" else planning.ACCELERATOR
    buckets: dict[tuple[ModuleShape, np.dtype], list[ModuleKey]] = {}
    for key in bank.modules:
        buckets.setdefault((bank.shape(key), bank.dtype(key)), []).append(key)
    found: dict[ModuleKey, Plan] = {}
    for (shape, stored), keys in buckets.items():
        present = [bank.present(key) for key in keys]
        threads = modules_at_once(spec, shape.rank)
        devices = tiles_at_once(spec, shape.rank)
        tasks = max(map(len, present))
        share = min(budget // devices, memory_of_a_device())
        made = plan(shape, tasks, stored, spec, share, threads, sizes)
        added = max(int(np.sum(tasks >= known)) for tasks in present) if known else 0
        made = replace(made, devices=devices, added=min(made.block, added))
        found |= dict.fromkeys(keys, made)
    return found


def sweep(
    bank: AdapterBank,
    spec: ComparisonSpec,
    made: Mapping[ModuleKey, Plan],
    rank_rtol: float | None = None,
    tick: Callable[[int], None] = lambda pairs: None,
    known: int = 0,
) -> Iterator[ModuleResult]:
    """Compare all tasks of a bank, module by module.

    Args:
        bank: The adapters.
        spec: What to compute.
        made: The modules to go through, and the plan of each.
        rank_rtol: See `compare`.
        tick: Told how many unordered pairs each tile has dealt with.
        known: How many tasks, the first, have been compared with each other before; those pairs
            are left NaN.

    """
    host = Host(bank, spec, rank_rtol)
    for at_once, keys in groupby(made, lambda key: (made[key].side_by_side, made[key].devices)):
        modules = (_Module(host, key, made[key], known) for key in keys)
        side_by_side, devices = at_once
        if side_by_side > 1:
            for module in _in_threads(side_by_side, (module.measured for module in modules)):
                tick(new_pairs(len(module.tasks), module.known))
                yield module.result()
        else:
            yield from _in_turn(host, modules, devices, tick)


def _in_turn(
    host: Host, modules: Iterable["_Module"], devices: int, tick: Callable[[int], None]
) -> Iterator[ModuleResult]:
    """The results of the modules, as many of their tiles at a time as there are devices."""
    at_work: deque[_Module] = deque()
    group: list[_Job] = []
    started: deque[tuple[list[_Job], Callable[[], list[dict[str, np.ndarray]]]]] = deque()

    def start() -> None:
        wait = host.start([tile for *_, tile in group], group[0][0].plan)
        started.append((group.copy(), wait))
        group.clear()

    def finish(left: int) -> None:
        while len(started) > left:
            jobs, wait = started.popleft()
            for (module, rows, cols, tile), values in zip(jobs, wait(), strict=True):
                module.store(rows, cols, tile.pairs, values)
                tick(len(tile.pairs))

    for module in modules:
        at_work.append(module)
        for rows, cols, tile in module.tiles():
            if group and (group[0][0].plan != module.plan or not _alike(group[0][3], tile)):
                start()
            group.append((module, rows, cols, tile))
            if len(group) == devices:
                start()
            finish(host.ahead)
        waiting = [*group, *(job for jobs, _ in started for job in jobs)]
        while at_work and not any(at_work[0] is job[0] for job in waiting):
            yield at_work.popleft().result()
    if group:
        start()
    finish(0)
    for module in at_work:
        yield module.result()


_Job = tuple["_Module", range, range, Tile]


def _alike(first: Tile, second: Tile) -> bool:
    """Whether two tiles are of equal shapes, and so of one program."""
    return all(a.s.shape == b.s.shape for a, b in zip(first[:2], second[:2], strict=True))


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

    def __init__(self, host: Host, key: ModuleKey, plan: Plan, known: int) -> None:
        self.host, self.key, self.plan, self.spec = host, key, plan, host.spec
        self.blocks: OrderedDict[range, FactorRows] = OrderedDict()
        self.tasks = host.bank.present(key)
        self.known = int(np.sum(self.tasks < known))
        total, r = len(host.bank.tasks), plan.shape.rank
        vectors = self.spec.vectors()
        self.pairs = {
            name: np.full(
                (total, total, *((r,) if name in vectors else ())), np.nan, self.spec.dtype
            )
            for name in (*self.spec.variables(), *self.spec.chances(), *vectors)
        }
        # Read at the end only: to read them is to wait for them.
        self.spectra_of: list[tuple[np.ndarray, Array | np.ndarray, Array | np.ndarray]] = []

    def tiles(self) -> Iterator[tuple[range, range, Tile]]:
        """The tasks of the rows and of the columns of every tile, and what to compare."""
        plan = self.plan
        for rows, cols, pairs in tiles(len(self.tasks), plan.block, self.known, plan.added):
            # The rows last, so that they are not what a full cache gives up next.
            columns, lines = self._block(cols), self._block(rows)
            yield rows, cols, Tile(lines, columns, pairs, rows is cols)
        self.blocks.clear()

    def measured(self) -> "_Module":
        """Itself, with all tiles measured and stored."""
        for rows, cols, tile in self.tiles():
            self.store(rows, cols, tile.pairs, self.host.measure(tile, self.plan))
        return self

    def store(
        self, rows: range, cols: range, pairs: np.ndarray, values: dict[str, np.ndarray]
    ) -> None:
        """Keep the numbers of one tile, both ways."""
        a, b = self.tasks[rows.start + pairs[:, 0]], self.tasks[cols.start + pairs[:, 1]]
        for name, value in values.items():
            there, back = (value, value) if self.spec.symmetric(name) else value.swapaxes(0, 1)
            self.pairs[name][a, b] = there
            self.pairs[name][b, a] = back

    def result(self) -> ModuleResult:
        """All numbers, once all tiles are stored."""
        total = len(self.host.bank.tasks)
        rank = np.full(total, np.nan)
        spectra = np.full((total, self.plan.shape.rank), np.nan)
        for tasks, its_rank, s in self.spectra_of:
            rank[tasks] = np.asarray(its_rank)[: len(tasks)]
            spectra[tasks] = np.asarray(s)[: len(tasks)]
        live = rank > 0
        valid = live[:, None] & live[None, :]
        return ModuleResult(self.key, self.plan.shape, self.pairs, valid, rank, spectra)

    def _block(self, tasks: range) -> FactorRows:
        if tasks in self.blocks:
            self.blocks.move_to_end(tasks)
            return self.blocks[tasks]
        while len(self.blocks) >= self.plan.blocks_kept:
            self.blocks.popitem(last=False)
        size = self.plan.added if self.known and tasks.start >= self.known else self.plan.block
        own = self.tasks[tasks.start : tasks.stop]
        block = self.host.factor(self.key, own, self.plan, size)
        self.spectra_of.append((own, block.rank, block.s))
        self.blocks[tasks] = block
        return block
