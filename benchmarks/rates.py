"""How fast single steps are, with their inputs on the device already."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.checks import wide
from benchmarks.machine import installed
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


def ceilings(size: int, entries: int) -> dict[str, Any]:
    """What the device can do at most: products of large matrices, and copies."""
    found: dict[str, Any] = {"kernel": "ceilings", "size": size}
    product = jax.jit(partial(jnp.matmul, precision="highest"))
    for dtype in (jnp.float32, jnp.float64):
        with wide():
            X = jax.random.normal(jax.random.key(0), (size, size), dtype)
            _, least = seconds(partial(product, X, X))
            found[f"gigaflops_{X.dtype}"] = 2e-9 * size**3 / least
    x = jnp.zeros(entries, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    _, least = seconds(lambda: copy(x))
    return found | {"gigabytes_per_second": 8e-9 * entries / least}


def singular_values_rate(n: int, dtype: str, entries: int, peer_entries: int) -> dict[str, Any]:
    """Of n × n matrices with so many entries in all; XLA's SVD and torch get a batch of their own.

    The bytes are those that the steps of bidiagonalisation move if each reads the matrices three
    times and writes them once; the FLOPs are the 8/3 n³ of bidiagonalisation alone.
    """
    row: dict[str, Any] = {"kernel": "singular_values", "n": n, "dtype": dtype}
    with wide():
        itemsize = jnp.zeros((), dtype).dtype.itemsize
        for name, solve, total in (
            ("jaxtask", jax.jit(singular_values), entries),
            ("xla", jax.jit(partial(jnp.linalg.svd, compute_uv=False)), peer_entries),
        ):
            batch = max(1, total // n**2)
            G = jax.random.normal(jax.random.key(0), (batch, n, n), dtype)
            first, least = seconds(partial(solve, G))
            row |= {
                f"{name}_batch": batch,
                f"{name}_first_call_seconds": first,
                f"{name}_matrices_per_second": batch / least,
            }
    rate = row["jaxtask_matrices_per_second"]
    row["gigabytes_per_second"] = 1e-9 * rate * 4 * itemsize * sum(m * m for m in _sizes(n))
    row["gigaflops"] = 1e-9 * rate * 8 / 3 * n**3
    row["over_xla"] = rate / row["xla_matrices_per_second"]
    if installed("torch") is None:
        return row | {"torch": "not installed"}
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = max(1, peer_entries // n**2)
    T = torch.randn(batch, n, n, dtype=getattr(torch, dtype), device=device)

    def by_torch() -> None:
        torch.linalg.svdvals(T)
        if device == "cuda":
            torch.cuda.synchronize()

    torch_rate = batch / seconds(by_torch)[1]
    return row | {
        "torch": device,
        "torch_matrices_per_second": torch_rate,
        "over_torch": rate / torch_rate,
    }


def _sizes(n: int) -> list[int]:
    """Of the matrix at each step: what is done is cut off every eighth."""
    return [n - k // 8 * 8 for k in range(n)]


def bases_rate(d: int, n: int, batch: int) -> dict[str, Any]:
    """Orthonormal bases of [batch, d, n]: Gram matrices with Cholesky beside Householder QR."""
    B = jax.random.normal(jax.random.key(0), (batch, d, n), jnp.float32)
    A = jnp.broadcast_to(jnp.eye(n, dtype=jnp.float32), (batch, n, n))
    ones, rtol = np.ones(batch), np.full(batch, 1e-6)
    with wide():
        _, ours = seconds(
            lambda: factor_rows(
                B, A, ones, rtol, dtype=np.dtype(np.float32), chunk=batch, need_v=False
            )
        )
    batched_qr = jax.jit(jnp.linalg.qr)
    _, theirs = seconds(lambda: batched_qr(B))
    return {
        "kernel": "bases",
        "d": d,
        "n": n,
        "batch": batch,
        "gram_form_per_second": batch / ours,
        "batched_qr_per_second": batch / theirs,
        "over_qr": theirs / ours,
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
