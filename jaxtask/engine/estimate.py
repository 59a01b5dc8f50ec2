"""What a comparison will take, before it runs: counted from its plan, timed on a little of it."""

import shutil
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes  # noqa: F401  (NumPy then knows "bfloat16" by name)
import numpy as np

from jaxtask.adapters import ModuleEntry, ModuleKey
from jaxtask.engine.backend import Host, Tile, numerics, runs_natively
from jaxtask.engine.plan import Plan, tiles
from jaxtask.engine.prepare import Comparison
from jaxtask.engine.resume import added_to
from jaxtask.engine.spec import ComparisonSpec
from jaxtask.engine.zarr_store import open_result
from jaxtask_kernels import native
from jaxtask_kernels.factor_rows import FactorRows
from jaxtask_kernels.gram import gram_rows

_RATE_SHAPE = 64, 16, 4096
"""Updates, their rank and width: the product that a machine's matrix rate is measured with."""


@dataclass(frozen=True)
class Bucket:
    """The modules of one shape.

    Attributes:
        cells: Unordered pairs of tasks × modules.
        factored: Updates whose bases are computed; more than there are where few blocks can be
            kept.

    """

    plan: Plan
    keys: tuple[ModuleKey, ...]
    cells: int
    tiles: int
    factored: int
    bytes_read: int
    flops_factor: float
    flops_gram: float
    flops_singular_values: float


def buckets(comparison: Comparison) -> list[Bucket]:
    """What is to be done, counted. Nothing is read."""
    by_plan: dict[Plan, list[ModuleKey]] = {}
    for key, plan in comparison.plans.items():
        by_plan.setdefault(plan, []).append(key)
    return [_bucket(comparison, plan, keys) for plan, keys in by_plan.items()]


def _bucket(comparison: Comparison, plan: Plan, keys: list[ModuleKey]) -> Bucket:
    bank, spec = comparison.bank, comparison.spec
    d_out, d_in, r = plan.shape
    count = factored = read = 0
    for key in keys:
        present = bank.present(key)
        loads = _loads(plan, len(present), int(np.sum(present < comparison.known)))
        count += loads[0]
        for tasks in loads[1]:
            factored += len(tasks)
            read += sum(
                _stored(bank.adapters[task].entry(key))
                for task in present[tasks.start : tasks.stop]
            )
    cells = comparison.pairs(keys)
    widths = [d for d, side in ((d_out, "out"), (d_in, "in")) if spec.needs(side)]
    solved = [side for side in ("out", "in") if spec.needs_cosines(side)]
    return Bucket(
        plan=plan,
        keys=tuple(keys),
        cells=cells,
        tiles=count,
        factored=factored,
        bytes_read=read,
        # Gram matrices of both factors, and the bases of the sides that are needed.
        flops_factor=2.0 * r * r * (d_out + d_in + sum(widths)) * factored,
        flops_gram=_gram_flops(spec, plan) * cells,
        # Bidiagonalisation; what comes after is of lower order in r.
        flops_singular_values=8 / 3 * r**3 * len(solved) * cells,
    )


def _loads(plan: Plan, tasks: int, known: int) -> tuple[int, list[range]]:
    """Number of tiles, and the blocks in the order they are factored in, as the sweep does it."""
    kept: OrderedDict[range, None] = OrderedDict()
    count, found = 0, []
    for rows, cols, _ in tiles(tasks, plan.block, known, plan.added):
        count += 1
        for block in (cols, rows):
            if block not in kept:
                while len(kept) >= plan.blocks_kept:
                    kept.popitem(last=False)
                found.append(block)
            kept[block] = None
            kept.move_to_end(block)
    return count, found


def _stored(entry: ModuleEntry) -> int:
    """Bytes of both factors in their file."""
    return sum(
        factor.shape[0] * factor.shape[1] * np.dtype(factor.stored_as).itemsize
        for factor in (entry.B, entry.A)
    )


def matrix_rate() -> float:
    """FLOP/s that this machine's matrix products reach, all its devices together."""
    rng = np.random.default_rng(0)
    X, Y = (rng.standard_normal(_RATE_SHAPE, dtype=np.float32) for _ in range(2))
    updates, r, width = _RATE_SHAPE
    flops = 2.0 * (updates * r) ** 2 * width
    if runs_natively():
        return flops / _seconds(lambda: native.gram_rows(X, Y, threads=native.threads()))
    product = jax.jit(gram_rows)
    x, y = jnp.asarray(X), jnp.asarray(Y)
    return flops / _seconds(lambda: product(x, y).block_until_ready()) * jax.local_device_count()


def _gram_flops(spec: ComparisonSpec, plan: Plan) -> float:
    """Of one cell."""
    d_out, d_in, r = plan.shape
    return 2.0 * r * r * (d_out * spec.needs("out") + d_in * spec.needs("in"))


def estimate(
    comparison: Comparison, out: Path | None = None, *, append: bool = False
) -> dict[str, Any]:
    """Buckets, bytes, FLOPs and time of a comparison, as JSON-able data.

    Of every bucket, at most two tiles of its first module are computed, with what they need, and
    the digest of one adapter if the result goes to disk. Times are by this process alone.

    Args:
        comparison: What would be compared.
        out: Where the result would go.
        append: Whether it would be added to what is there.

    """
    if out is not None and append:
        comparison = added_to(open_result(out), comparison)
    bank, known = comparison.bank, comparison.known
    with numerics():
        counted = buckets(comparison)
        host = Host(bank, comparison.spec, comparison.rank_rtol)
        timed = [_calibrate(host, bucket, known) for bucket in counted]
        rate = matrix_rate()
    compiling = sum(first for first, _ in timed)
    computing = sum(seconds for _, seconds in timed)
    checking = 0.0
    if out is not None:
        checking = _seconds(bank.adapters[0].digest, repeats=1) * len(bank.adapters)
    variables = comparison.layout.variables.values()
    # What a chunk takes before it is compressed; a module that a layer lacks takes nothing.
    module = sum(int(np.prod(v.shape[2:])) * v.dtype.itemsize for v in variables)
    return {
        "tasks": len(bank.tasks),
        "known_tasks": known,
        "modules": len(bank.modules),
        "buckets": [
            {
                "d_out": b.plan.shape.d_out,
                "d_in": b.plan.shape.d_in,
                "rank": b.plan.shape.rank,
                "modules": len(b.keys),
                "tasks_per_block": b.plan.block,
                "tiles": b.tiles,
                "cells": b.cells,
                "bytes_read": b.bytes_read,
                "gigaflops": {
                    "factor": 1e-9 * b.flops_factor,
                    "gram": 1e-9 * b.flops_gram,
                    "singular_values": 1e-9 * b.flops_singular_values,
                },
                "seconds": seconds,
            }
            for b, (_, seconds) in zip(counted, timed, strict=True)
        ],
        "cells": sum(b.cells for b in counted),
        "bytes_read": sum(b.bytes_read for b in counted),
        # Numbers of one module are made while those before it are written.
        "bytes_held_at_most": max(
            p.bytes_held * p.side_by_side * p.devices + (p.side_by_side + 2) * module
            for p in comparison.plans.values()
        ),
        "bytes_written_at_most": module * len(bank.modules),
        "seconds": {
            "compile": compiling,
            "check_adapters": checking,
            "compare": computing,
            "in_all": compiling + checking + computing,
        },
        "matrix_rate_gigaflops": 1e-9 * rate,
        "gram_share_of_time": sum(b.flops_gram for b in counted) / rate / max(computing, 1e-9),
        "device": comparison.attributes["device"],
        "processes": jax.process_count(),
        "devices": jax.local_device_count(),
        "out": None if out is None else str(out),
        "bytes_free_there": None if out is None else _free(out),
    }


def _calibrate(host: Host, bucket: Bucket, known: int) -> tuple[float, float]:
    """Seconds that a bucket's compilation takes, and all else of it."""
    plan, key = bucket.plan, bucket.keys[0]
    present = host.bank.present(key)
    of_module = list(tiles(len(present), plan.block, int(np.sum(present < known)), plan.added))

    def factor(block: range) -> FactorRows:
        size = plan.added if known and block.start >= known else plan.block
        rows = host.factor(key, present[block.start : block.stop], plan, size)
        return jax.block_until_ready(rows)

    compiling = comparing = 0.0
    for diagonal in (True, False):
        alike = [tile for tile in of_module if (tile[0] is tile[1]) == diagonal]
        if not alike:
            continue
        rows, cols, pairs = alike[0]
        blocks = {block: factor(block) for block in (cols, rows)}
        tile = Tile(blocks[rows], blocks[cols], pairs, rows is cols)
        measure = partial(host.measure, tile, plan)
        first, then = _seconds(measure, repeats=1), _seconds(measure)
        compiling += max(0.0, first - then)
        comparing += then * len(alike)
    if of_module:
        block = of_module[0][0]
        factoring = _seconds(lambda: factor(block)) / len(block) * bucket.factored
        comparing *= bucket.tiles / len(of_module)
        comparing = (comparing / plan.devices + factoring) / plan.side_by_side
    return compiling, comparing


def _seconds(run: Callable[[], Any], repeats: int = 2) -> float:
    """The least of a few."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def _free(out: Path) -> int | None:
    parent = out.absolute().parent
    return shutil.disk_usage(parent).free if parent.is_dir() else None
