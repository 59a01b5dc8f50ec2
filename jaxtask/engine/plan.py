"""How a module's comparison is cut up: tasks per block, pairs per chunk, bytes in use."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from jaxtask.adapters import ModuleShape
from jaxtask.engine.spec import ComparisonSpec
from jaxtask.errors import JaxtaskError
from jaxtask.machine import available_memory


class Sizes(NamedTuple):
    """How much is dealt with at a time.

    Attributes:
        tile_columns: Width of a Gram tile.
        chunk_bytes: Bytes that the pairs of a chunk may take.
        wide_bytes: Bytes that updates widened to float64 may take.

    """

    tile_columns: int
    chunk_bytes: int
    wide_bytes: int


# A Gram tile of this width stays in the last-level cache and still runs at the full matrix rate.
CPU = Sizes(1024, 64 << 20, 4 << 20)
# Few launches, each with work for all of the device.
ACCELERATOR = Sizes(8192, 1 << 30, 256 << 20)

# The allocator keeps what is freed, and the compiled programs copy: peaks were measured at up to
# 2.4 times what is counted here.
_IN_USE = 0.3


@dataclass(frozen=True)
class Plan:
    """Static sizes for all modules of one shape bucket.

    Attributes:
        shape: Shape of the bucket, with the padded rank.
        stored: Type of the factors as the bank gives them.
        tasks: The largest number of tasks that any module of the bucket has.
        block: T: tasks per block; a tile compares two blocks.
        factor_chunk: Updates widened to float64 at a time; divides `block`.
        pair_chunk: P: pairs per step of the pair stage.
        chunks: C: steps that a full tile takes.
        blocks_kept: Factored blocks held at a time; fewer than needed means factoring again.
        bytes_held: Most bytes of main memory that are used while a module is compared.
        side_by_side: Modules that go through all stages at once, a thread each.
        devices: Tiles that are compared at once, a device each.
        added: Tasks per block of those that join a finished result; 0 if none do.

    """

    shape: ModuleShape
    stored: np.dtype
    tasks: int
    block: int
    factor_chunk: int
    pair_chunk: int
    chunks: int
    blocks_kept: int
    bytes_held: int
    side_by_side: int = 1
    devices: int = 1
    added: int = 0

    @property
    def blocks(self) -> int:
        """Blocks that cover all tasks."""
        return math.ceil(self.tasks / self.block)

    @property
    def cut(self) -> tuple[int, ...]:
        """What may show in last digits: how many updates and pairs are dealt with together."""
        return self.block, self.added, self.factor_chunk, self.chunks, self.pair_chunk

    def steps(self, rows: int, columns: int) -> tuple[int, int]:
        """Steps that a tile of two such blocks takes at most, and pairs per step."""
        if rows == columns == self.block:
            return self.chunks, self.pair_chunk
        chunk = min(rows * columns, self.pair_chunk)
        return math.ceil(rows * columns / chunk), chunk


def plan(
    shape: ModuleShape,
    tasks: int,
    stored: np.dtype,
    spec: ComparisonSpec,
    budget: int,
    threads: int = 1,
    sizes: Sizes = CPU,
) -> Plan:
    """The largest blocks that keep everything within `budget` bytes.

    Args:
        shape: Shape of the modules.
        tasks: The largest number of tasks that any of them has.
        stored: Type of the factors.
        spec: What to compute.
        budget: Memory budget in bytes.
        threads: Modules that may go side by side if all of each fits into one block; else one does.
        sizes: Sizes of blocks and chunks, unless less fits.

    Raises:
        JaxtaskError: Not even one task per block fits.

    """
    if threads > 1:
        try:
            share = plan(shape, tasks, stored, spec, budget // threads, sizes=sizes)
        except JaxtaskError:
            share = None
        if share is not None and share.blocks == 1:
            return replace(share, side_by_side=threads)
    usable = int(budget * _IN_USE)
    r = shape.rank
    item = np.dtype(spec.dtype).itemsize
    widths = [d for d, side in ((shape.d_out, "out"), (shape.d_in, "in")) if spec.needs(side)]
    bases = sum(widths) * r * item
    raw = (shape.d_out + shape.d_in) * r * stored.itemsize
    wide = 8 * (shape.d_out + shape.d_in) * r
    # Some eight blocks of the pair in the program's dtype, and three in float64 around its SVD.
    per_pair = r * r * (8 * item + 3 * 8) * len(widths)

    def layout(t: int) -> tuple[int, int, int, int, int]:
        factor_chunk = _divisor(t, max(1, sizes.wide_bytes // wide))
        pairs = t * t if t < tasks else unordered_pairs(t)
        pair_chunk = max(1, min(pairs, sizes.chunk_bytes // per_pair))
        chunks = math.ceil(pairs / pair_chunk)
        gram = (t * r) ** 2 * item * len(widths)
        # QR, refinement and SVD of a chunk hold about six copies of its factors.
        stage_factor = 2 * t * raw + t * bases + 6 * factor_chunk * wide
        stage_pairs = 2 * gram + pair_chunk * per_pair
        return factor_chunk, pair_chunk, chunks, t * bases, max(stage_factor, stage_pairs)

    t = min(tasks, max(1, sizes.tile_columns // r))
    t = math.ceil(tasks / math.ceil(tasks / t))
    while True:
        factor_chunk, pair_chunk, chunks, block_bytes, stage = layout(t)
        need = stage + block_bytes * min(2, math.ceil(tasks / t))
        if need <= usable or t == 1:
            break
        t = (t + 1) // 2
    if need > usable:
        raise JaxtaskError(
            f"memory_budget of {_mib(budget)} is too small: one update of shape {shape.d_out}×"
            f"{shape.d_in}, rank {r}, needs {_mib(need / _IN_USE)}"
        )
    kept = min(math.ceil(tasks / t), max(2, (usable - stage) // max(block_bytes, 1)))
    held = int((stage + kept * block_bytes) / _IN_USE)
    return Plan(shape, stored, tasks, t, factor_chunk, pair_chunk, chunks, kept, held)


def unordered_pairs(tasks: int) -> int:
    """Pairs of so many tasks, each with itself included."""
    return tasks * (tasks + 1) // 2


def new_pairs(tasks: int, known: int) -> int:
    """Unordered pairs of so many tasks, without those among the first `known`."""
    return unordered_pairs(tasks) - unordered_pairs(known)


def tiles(
    tasks: int, block: int, known: int = 0, added: int = 0
) -> Iterator[tuple[range, range, np.ndarray]]:
    """The tiles that cover every unordered pair once, but those among the first `known` tasks.

    Args:
        tasks: How many there are.
        block: Tasks per block.
        known: Those whose pairs are there already. No block holds some of them and others.
        added: Tasks per block of the others, if some are known.

    Yields:
        The tasks of the rows, those of the columns, none before, and the pairs [n, 2], as places
        in the two.

    """
    blocks = [*_blocks(0, known, block), *_blocks(known, tasks, added if known else block)]
    for i, rows in enumerate(blocks):
        for columns in blocks[i:]:
            if columns.stop > known:
                yield rows, columns, _pairs(len(rows), len(columns), rows is columns)


def _blocks(start: int, stop: int, block: int) -> list[range]:
    return [range(i, min(i + block, stop)) for i in range(start, stop, max(block, 1))]


@lru_cache(maxsize=8)
def _pairs(rows: int, columns: int, diagonal: bool) -> np.ndarray:
    a, b = np.arange(rows, dtype=np.int32), np.arange(columns, dtype=np.int32)
    pairs = np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1).reshape(-1, 2)
    return pairs[pairs[:, 0] <= pairs[:, 1]] if diagonal else pairs


def default_budget() -> int:
    """Half of what is available now."""
    return available_memory() // 2


def _divisor(n: int, at_most: int) -> int:
    return next(c for c in range(min(n, at_most), 0, -1) if n % c == 0)


def _mib(n: float) -> str:
    return f"{n / 2**20:.1f} MiB"
