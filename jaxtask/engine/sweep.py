"""The loop over modules: read, factor, compare tile by tile, hand the numbers over.

Small modules go side by side, a thread each; large ones one by one, with all threads for each.
Where there are several devices, so many tiles are compared at once, of one module or more. While an
accelerator compares tiles, the next ones are read and sent.

Nothing here is kept between modules but compiled code and memory to use again.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from typing import TypeVar

import jax
import numpy as np
from jax import Array

from jaxtask.adapters import ModuleKey
from jaxtask.engine.backend import Host, Tile
from jaxtask.engine.plan import new_pairs, tiles
from jaxtask.engine.prepare import Comparison
from jaxtask.engine.schema import values
from jaxtask_kernels.factor_rows import FactorRows

_T = TypeVar("_T")

Progress = Callable[[int, int], None]
"""Told of pairs done and pairs in all."""


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


def sweep(
    comparison: Comparison, keys: Iterable[ModuleKey], tick: Callable[[int], None]
) -> Iterator[tuple[ModuleKey, dict[str, np.ndarray]]]:
    """Compare all tasks, module by module.

    Args:
        comparison: What to compare. Pairs of tasks that are known are left NaN.
        keys: The modules to go through, in the order of their plans.
        tick: Told how many unordered pairs each tile has dealt with.

    Yields:
        Each module and its numbers by variable, as the result's layout has them.

    """
    host, plans = Host(comparison.bank, comparison.spec, comparison.rank_rtol), comparison.plans
    for at_once, some in groupby(keys, lambda key: (plans[key].side_by_side, plans[key].devices)):
        modules = (_Module(host, key, comparison) for key in some)
        side_by_side, devices = at_once
        if side_by_side > 1:
            for module in _in_threads(side_by_side, (module.measured for module in modules)):
                tick(new_pairs(len(module.tasks), module.known))
                yield module.key, module.values()
        else:
            for module in _in_turn(host, modules, devices, tick):
                yield module.key, module.values()


def _in_turn(
    host: Host, modules: Iterable["_Module"], devices: int, tick: Callable[[int], None]
) -> Iterator["_Module"]:
    """The modules with all tiles measured, as many of these at a time as there are devices."""
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
            for (module, rows, cols, tile), measured in zip(jobs, wait(), strict=True):
                module.store(rows, cols, tile.pairs, measured)
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
            yield at_work.popleft()
    if group:
        start()
    finish(0)
    yield from at_work


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

    def __init__(self, host: Host, key: ModuleKey, comparison: Comparison) -> None:
        self.host, self.key, self.spec = host, key, comparison.spec
        self.plan, self.component = comparison.plans[key], comparison.layout.component
        self.blocks: OrderedDict[range, FactorRows] = OrderedDict()
        self.tasks = host.bank.present(key)
        self.known = int(np.sum(self.tasks < comparison.known))
        total, r = len(host.bank.tasks), self.plan.shape.rank
        vectors = self.spec.vectors()
        self.pairs = {
            name: np.full(
                (total, total, *((r,) if name in vectors else ())), np.nan, self.spec.dtype
            )
            for name in (*self.spec.variables(), *self.spec.null_variables(), *vectors)
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
        self, rows: range, cols: range, pairs: np.ndarray, measured: dict[str, np.ndarray]
    ) -> None:
        """Keep the numbers of one tile, both ways."""
        a, b = self.tasks[rows.start + pairs[:, 0]], self.tasks[cols.start + pairs[:, 1]]
        for name, value in measured.items():
            there, back = (value, value) if self.spec.symmetric(name) else value.swapaxes(0, 1)
            self.pairs[name][a, b] = there
            self.pairs[name][b, a] = back

    def values(self) -> dict[str, np.ndarray]:
        """All numbers by variable, once all tiles are stored."""
        total = len(self.host.bank.tasks)
        rank = np.full(total, np.nan)
        spectra = np.full((total, self.plan.shape.rank), np.nan)
        for tasks, its_rank, s in self.spectra_of:
            rank[tasks] = np.asarray(its_rank)[: len(tasks)]
            spectra[tasks] = np.asarray(s)[: len(tasks)]
        return values(self.pairs, rank, spectra, self.plan.shape, self.spec, self.component)

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
