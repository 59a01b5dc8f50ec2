"""A sweep whose factors lie in device memory: what the engine's programs take by themselves.

By default the shape of the Lots-of-LoRAs collection: 500 adapters of rank 16 on q, k and v of the
32 layers of Mistral-7B.
"""

import time
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.checks import wide
from jaxtask.engine.pair_stage import measure_tile
from jaxtask.engine.spec import ComparisonSpec
from jaxtask.metrics import resolve
from jaxtask_kernels.factor_rows import factor_rows


@dataclass(frozen=True)
class Resident:
    """Sizes of the bank."""

    tasks: int = 500
    layers: int = 32
    r: int = 16
    d_in: int = 4096
    d_out: dict[str, int] = field(
        default_factory=lambda: {"q_proj": 4096, "k_proj": 1024, "v_proj": 1024}
    )
    pair_chunk: int = 1 << 16


def sweep(bank: Resident) -> dict[str, Any]:
    """Seconds of `grassmann` on the out side, all pairs of all modules, results on the host."""
    spec = ComparisonSpec(resolve(["grassmann"]), ("out",))
    modules = [
        _factors(bank, layer, d_out)
        for layer in range(bank.layers)
        for d_out in bank.d_out.values()
    ]
    pairs, chunks = _pairs(bank)
    seconds = []
    with wide():
        for _ in range(2):  # the first compiles
            start = time.perf_counter()
            results = [_module(bank, spec, *factors, pairs, chunks) for factors in modules]
            jax.device_get(results)
            seconds.append(time.perf_counter() - start)
    cells = len(modules) * bank.tasks * (bank.tasks + 1) // 2
    return {
        **vars(bank),
        "cells": cells,
        "gigabytes_of_factors": 1e-9 * sum(B.nbytes + A.nbytes for B, A in modules),
        "first_seconds": seconds[0],
        "seconds": seconds[1],
        "cells_per_second": cells / seconds[1],
    }


def _factors(bank: Resident, layer: int, d_out: int) -> tuple[jax.Array, jax.Array]:
    """Random B [tasks, d_out, r] and A [tasks, r, d_in] in bfloat16, drawn on the device."""
    keys = jax.random.split(jax.random.key(layer))
    B = jax.random.normal(keys[0], (bank.tasks, d_out, bank.r), jnp.bfloat16)
    A = jax.random.normal(keys[1], (bank.tasks, bank.r, bank.d_in), jnp.bfloat16)
    return B, A


def _pairs(bank: Resident) -> tuple[np.ndarray, np.int32]:
    """[C, P, 2] pairs of the upper triangle, the last chunk padded with (0, 0), and C."""
    pairs = np.stack(np.triu_indices(bank.tasks), axis=1).astype(np.int32)
    chunks = -(-len(pairs) // bank.pair_chunk)
    pairs = np.pad(pairs, [(0, chunks * bank.pair_chunk - len(pairs)), (0, 0)])
    return pairs.reshape(chunks, bank.pair_chunk, 2), np.int32(chunks)


def _module(
    bank: Resident,
    spec: ComparisonSpec,
    B: jax.Array,
    A: jax.Array,
    pairs: np.ndarray,
    chunks: np.int32,
) -> dict[str, jax.Array]:
    chunk = next(c for c in range(min(bank.tasks, 100), 0, -1) if bank.tasks % c == 0)
    rtol = np.full(bank.tasks, 4 * np.sqrt(bank.r) * np.finfo(np.float32).eps)
    rows = factor_rows(
        B,
        A,
        np.ones(bank.tasks),
        rtol,
        dtype=np.dtype(np.float32),
        chunk=chunk,
        need_v=False,
    )
    return measure_tile(rows, rows, None, pairs, chunks, np.bool_(True), spec=spec)
