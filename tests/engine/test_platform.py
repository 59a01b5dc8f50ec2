"""What is assumed of JAX and what is promised about its settings."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxtask as jt
from oracles import sum_error
from shell import python

pytestmark = pytest.mark.usefixtures("compile_fully")

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(16, 16, 4096), (8, 16, 1024)])
def test_fused_reductions_are_right(shape, dtype):
    """jaxlib 0.10.2 on CPU gets this one wrong without a word (error 28; jax issue 39103)."""
    k, m, d = shape
    rng = np.random.default_rng(0)
    v = rng.standard_normal((k, d)).astype(dtype)
    A = rng.standard_normal((k, m, d)).astype(dtype)
    with jax.enable_x64(dtype == np.float64):
        found = jax.jit(lambda v, A: (v[:, None, :] * A).sum(0))(v, A)
    truth = (v[:, None, :].astype(np.float64) * A).sum(0)
    sizes = np.linalg.norm(v, axis=0) * np.linalg.norm(A, axis=0)
    assert np.max(np.abs(np.asarray(found) - truth) / sizes) <= 2 * sum_error(k, dtype)


def small_bank(B=None):
    rng = np.random.default_rng(1)
    B = rng.standard_normal((12, 2)) if B is None else B
    A = rng.standard_normal((2, 10))
    return jt.AdapterBank.from_factors({n: {"layers.0.q": (B, A)} for n in "ab"})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_x64_flag_is_left_alone(dtype):
    """Neither during (as seen by a callback), nor after, nor after an error inside."""
    seen = []

    def state():
        return jax.config.jax_enable_x64, jnp.ones(1, float).dtype.name

    assert state() == (False, "float32")
    jt.compare(small_bank(), metrics="cosine", dtype=dtype)
    assert state() == (False, "float32")

    def fail(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jt.compare(small_bank(), metrics="cosine", dtype=dtype, progress=fail)
    assert state() == (False, "float32")
    with pytest.raises(ZeroDivisionError):
        jt.compare(small_bank(), metrics=jt.metric(lambda pair: 1 / 0, name="bad"), dtype=dtype)
    assert state() == (False, "float32")
    with jax.enable_x64(True):
        ds = jt.compare(small_bank(), metrics="cosine", dtype=dtype)
        seen = state()
    assert seen == (True, "float64")
    assert ds["cosine"].dtype == dtype


def test_result_does_not_depend_on_the_callers_x64():
    """With or without the user's own x64 flag the float32 mode computes the same."""
    plain = jt.compare(small_bank(), metrics=["grassmann", "l2"])
    with jax.enable_x64(True):
        inside = jt.compare(small_bank(), metrics=["grassmann", "l2"])
    for name in plain.data_vars:
        np.testing.assert_array_equal(plain[name], inside[name])


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="NPROC sets XLA's thread pool on Linux")
def test_two_threads_do_not_deadlock():
    """`compare` ends on a machine of two cores.

    jaxlib 0.10's batched LAPACK calls (triangular solve, QR, SVD ...) hand their batch to XLA's
    thread pool and wait for it on a thread of that pool; two of them at once, on two threads, wait
    for ever. The shapes are those at which that was seen (jaxlib 0.10.1, 2 of 3 runs).
    """
    code = """
        import numpy as np, jaxtask as jt
        rng = np.random.default_rng(0)
        for d in (8192, 14336):
            def pair():
                return rng.standard_normal((d, 64), "f"), rng.standard_normal((64, 64), "f")
            every = {f"t{i}": {"layers.0.q": pair()} for i in range(4)}
            bank = jt.AdapterBank.from_factors(every)
            for _ in range(4):
                jt.compare(bank, metrics=["grassmann"])
        print("done")
    """
    assert python(code, seconds=90, NPROC="2").strip() == "done"


@pytest.mark.process
def test_seldom_used_packages_are_not_imported():
    """Comparing imports no transformers, flax, orbax or torch; making a bank not even JAX."""
    code = """
        import sys, numpy as np, jaxtask as jt
        bank = jt.AdapterBank.from_factors({"a": {"layers.0.q": (np.eye(4, 2), np.eye(2, 4))}})
        assert "jax" not in sys.modules
        jt.compare(bank, metrics="cosine")
        print(*{"transformers", "flax", "orbax", "torch", "zarr", "matplotlib"} & set(sys.modules))
    """
    assert python(code, seconds=120).strip() == ""
