"""How fast single steps are, with their inputs on the device already."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.checks import wide
from jaxtask_kernels import singular_values
from jaxtask_kernels.factor_rows import factor_rows
from jaxtask_kernels.gram import gram_rows

_REPEATS = 5
_LONG = 5.0
"""Seconds of a first call after which one more has to do."""


def seconds(function: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the first call, with compilation, and the least of the others."""
    times = []
    for _ in range(1 + _REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - start)
        if len(times) == 2 and times[1] > _LONG:
            break
    return times[0], min(times[1:])


def gram_rate(d: int, n: int, columns: int) -> dict[str, Any]:
    """The product of two blocks of columns/n updates of rank n."""
    tasks = max(1, columns // n)
    X = jax.random.normal(jax.random.key(0), (tasks, n, d), jnp.float32)
    product = jax.jit(gram_rows)
    first, least = seconds(lambda: product(X, X))
    return {
        "kernel": "gram_rows",
        "d": d,
        "n": n,
        "tasks": tasks,
        "first_call_seconds": first,
        "gigaflops": 2e-9 * (tasks * n) ** 2 * d / least,
        "pairs_per_second": tasks**2 / least,
    }


def singular_values_rate(n: int, entries: int) -> dict[str, Any]:
    """Of a batch of n × n matrices with so many entries in all."""
    batch = max(1, entries // n**2)
    G = jax.random.normal(jax.random.key(0), (batch, n, n), jnp.float32)
    compiled = jax.jit(singular_values)
    first, least = seconds(lambda: compiled(G))
    return {
        "kernel": "singular_values",
        "n": n,
        "batch": batch,
        "first_call_seconds": first,
        "matrices_per_second": batch / least,
    }


def factor_rate(d: int, n: int, batch: int, chunk: int) -> dict[str, Any]:
    """Thin SVDs of `batch` updates of rank n, `chunk` at a time, one side's bases kept."""
    key_b, key_a = jax.random.split(jax.random.key(0))
    B = jax.random.normal(key_b, (batch, d, n), jnp.float32)
    A = jax.random.normal(key_a, (batch, n, d), jnp.float32)
    ones, rtol = np.ones(batch), np.full(batch, 1e-6)
    with wide():
        first, least = seconds(
            lambda: factor_rows(
                B, A, ones, rtol, dtype=np.dtype(np.float32), chunk=chunk, need_v=False
            )
        )
    return {
        "kernel": "factor_rows",
        "d": d,
        "n": n,
        "batch": batch,
        "chunk": chunk,
        "first_call_seconds": first,
        "updates_per_second": batch / least,
    }
