"""The backends of `singular_values` against NumPy in float64, 40 digits, and each other's rules.

Each of them is called directly, those for accelerators on the CPU.
"""

from functools import partial

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax import export

from jaxtask_kernels import bidiagonal, native, singular_values
from jaxtask_kernels.backends import BACKENDS, platform_svd
from oracles import turns_error

pytestmark = pytest.mark.usefixtures("compile_fully")

SIZES = [1, 2, 3, 8, 16, 17, 33, 64]
# Compiled in a hurry: on the CPU it is only tested.
_QUICKLY = {"xla_backend_optimization_level": 0}
# Without the platform's own SVD, which keeps wider bounds and is not ours to test.
SOLVERS = {
    backend.name: (backend, jax.jit(backend.singular_values, compiler_options=_QUICKLY))
    for backend in BACKENDS
    if backend.singular_values is not platform_svd
}


@pytest.fixture(params=SOLVERS)
def solve(request):
    backend, compiled = SOLVERS[request.param]
    if not backend.available():
        pytest.skip(f"no {backend.name}: {native.native().about}")

    def solved(G):
        if G.shape[-1] not in backend.sizes:
            pytest.skip(f"not for n = {G.shape[-1]}")
        with jax.enable_x64(G.dtype == np.float64):
            return np.asarray(compiled(jax.device_put(G, device)))

    device = jax.local_devices(backend="cpu")[0] if backend.platforms == ("cpu",) else None
    return solved


@pytest.fixture
def native_solver(on_cpu):
    return native.singular_values


def orthogonal(rng, count, n):
    return np.linalg.qr(rng.standard_normal((count, n, n)))[0]


def matrices(kind, n, count=67):
    """[count, n, n] float64, more than one block of lanes and not a whole number of them."""
    rng = np.random.default_rng(n)
    if kind == "gaussian":
        return rng.standard_normal((count, n, n))
    s = {
        "clusters": np.where(np.arange(n) % 2 == 0, 1, 1 - 1e-6),
        "equal": np.ones(n),
        "graded": 10.0 ** (-12 * np.arange(n) / max(n - 1, 1)),
        "rank one": np.eye(n)[0],
        "half rank": (np.arange(n) < n / 2).astype(float),
        "near one": 1 - 1e-5 * rng.random(n),
    }[kind]
    return orthogonal(rng, count, n) * s @ orthogonal(rng, count, n)


KINDS = ["gaussian", "clusters", "equal", "graded", "rank one", "half rank", "near one"]


def check(found, G, within, claim, allowed):
    right = np.linalg.svd(G.astype(np.float64), compute_uv=False)
    assert found.shape == right.shape
    assert found.dtype == G.dtype
    assert (found >= 0).all()
    assert (np.diff(found, axis=-1) <= 0).all()
    error = np.max(np.abs(found - right), axis=-1) / np.maximum(right[:, 0], 1e-300)
    within(claim, np.max(error), allowed)


@pytest.mark.slow
@pytest.mark.parametrize("n", SIZES)
def test_float32(solve, n, within):
    for kind in KINDS:
        G = matrices(kind, n).astype(np.float32)
        claim = f"singular values, float32, {kind} n = {n}"
        check(solve(G), G, within, claim, turns_error(n, np.float32))


@pytest.mark.parametrize("kind", ["gaussian", "clusters", "half rank"])
def test_the_largest(native_solver, kind, within):
    G = matrices(kind, 128, count=35).astype(np.float32)
    allowed = turns_error(128, np.float32)
    check(np.asarray(native_solver(G)), G, within, f"singular values, {kind} n = 128", allowed)


@pytest.mark.parametrize("n", [1, 3, 8, 16])
def test_float64(solve, n, within):
    """Against 40 digits, since LAPACK in float64 is no better than what is tested."""
    for kind in KINDS:
        G = matrices(kind, n, count=2)
        found = solve(G)
        with mpmath.workdps(40):
            exact = (mpmath.svd_r(mpmath.matrix(g), compute_uv=False) for g in G)
            right = np.array([sorted(map(float, values)) for values in exact])[:, ::-1]
        error = np.max(np.abs(found - right)) / np.max(right)
        claim = f"singular values, float64, {kind} n = {n}"
        within(claim, error, turns_error(n, np.float64))


@pytest.mark.parametrize("n", [2, 8, 33])
@pytest.mark.parametrize("kind", KINDS)
def test_bisection_where_dqds_gives_up(native_solver, kind, n, within):
    G = matrices(kind, n).astype(np.float32)
    for sweeps in (0, 3):
        found = np.asarray(native_solver(G, sweeps=sweeps))
        check(found, G, within, f"by bisection, n = {n}", turns_error(n, np.float32))


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e12, 1e30])
def test_any_scale(solve, scale, within):
    G = (matrices("graded", 8) * scale).astype(np.float32)
    check(solve(G), G, within, "singular values of any scale", turns_error(8, np.float32))


def test_zeros_and_what_is_not_finite(solve):
    G = np.zeros((3, 4, 4), np.float32)
    G[1, 2, 3], G[2, 0, 0] = np.nan, np.inf
    found = solve(G)
    np.testing.assert_array_equal(found[0], 0)
    assert np.isnan(found[1:]).all()
    assert solve(np.zeros((0, 3, 3), np.float32)).shape == (0, 3)


def transforms(G):
    yield singular_values(G)
    yield singular_values(np.swapaxes(G, -1, -2))
    yield jax.jit(singular_values)(G)
    yield jax.vmap(jax.vmap(singular_values))(G)


@pytest.fixture(params=["as it is", "elementwise"])
def backend_of_cpu(request, monkeypatch):
    """What a CPU uses, and what a GPU would, on the CPU."""
    if request.param == "elementwise":
        choose = jax.lax.platform_dependent
        monkeypatch.setattr(
            jax.lax,
            "platform_dependent",
            lambda *x, **how: choose(*x, **how | {"cpu": how["cuda"]}),
        )
        jax.clear_caches()
        yield
        jax.clear_caches()
    else:
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("backend_of_cpu")
def test_rectangles_batches_transforms():
    rng = np.random.default_rng(0)
    G = rng.standard_normal((2, 3, 7, 4)).astype(np.float32)
    right = np.linalg.svd(G, compute_uv=False)
    for found in transforms(G):
        np.testing.assert_allclose(found, right, atol=4e-6)
    gradient = jax.jit(jax.grad(lambda G: jnp.sum(singular_values(G))))(G)
    mapped = jax.jit(jax.vmap(jax.vmap(jax.grad(lambda G: jnp.sum(singular_values(G))))))(G)
    np.testing.assert_allclose(mapped, gradient, atol=1e-5)
    with jax.enable_x64(True):
        step = 1e-6 * rng.standard_normal(G.shape)
        up, down = singular_values(G + step).sum(), singular_values(G - step).sum()
        difference = float(up) - float(down)
    np.testing.assert_allclose(np.sum(gradient * step), difference / 2, rtol=1e-3)


def test_a_mapped_axis_joins_the_batch():
    """Else the batch of one matrix would be the innermost axis, where the lanes are."""
    (made,) = jax.make_jaxpr(jax.vmap(bidiagonal.singular_values))(np.zeros((9, 4, 4))).out_avals
    assert made.shape == (9, 4)
    text = str(jax.make_jaxpr(jax.vmap(bidiagonal.singular_values))(np.zeros((9, 4, 4), "f")))
    assert "f32[4,4,9]" in text
    assert "f32[9,4,4,1]" not in text


def test_chunks_change_nothing(monkeypatch):
    G = matrices("gaussian", 5, count=23).astype(np.float32)
    whole = bidiagonal.singular_values(G)
    monkeypatch.setattr(bidiagonal, "_ENTRIES", 7 * 25)
    np.testing.assert_allclose(bidiagonal.singular_values(G), whole, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize(("n", "ours"), [(16, True), (128, True), (129, False)])
def test_what_is_lowered_for_accelerators(platform, n, ours):
    """Up to LARGEST plain XLA without a call to a library, above the platform's own SVD."""
    shape = jax.ShapeDtypeStruct((3, n, n), np.float32)
    lowered = export.export(jax.jit(singular_values), platforms=[platform])(shape)
    text = lowered.mlir_module()
    assert (f"tensor<{n}x{n}x3xf32>" in text) == ours
    assert ("custom_call" in text) != ours


# --------------------------------------------------------------------------- whatever comes


def nasty(rng, n, dtype):
    """Named matrices of all sorts [n, n], of each as many as it takes for lanes to differ."""
    info = np.finfo(dtype)
    Q, P = orthogonal(rng, 2, n)
    gaussian = rng.standard_normal((n, n))
    decades = 10.0 ** rng.uniform(-info.precision, 0, (n, n))
    graded = np.geomspace(1, float(info.tiny) ** 0.4, n)
    yield "gaussian", gaussian
    yield "graded", Q * graded @ P
    yield "graded rows", gaussian * graded[:, None]
    yield "graded from the bottom", gaussian * graded[::-1]
    yield "entries of all sizes", decades * np.sign(gaussian)
    yield "clusters", Q * np.where(np.arange(n) % 2 == 0, 1, 1 - 1e-6) @ P
    yield "all equal", Q
    yield "identity", np.eye(n)
    yield "zero", np.zeros((n, n))
    yield "one entry", np.eye(n) * (np.arange(n) == n // 2)
    yield "rank one", np.outer(gaussian[0], gaussian[-1])
    yield "ones", np.ones((n, n))
    yield "upper", np.triu(np.ones((n, n)))
    yield "nilpotent", np.eye(n, k=1)
    yield "zero rows and columns", gaussian * (np.arange(n) % 3 > 0) * (np.arange(n) % 2)[:, None]
    yield "denormal", gaussian * float(info.smallest_subnormal) * 100
    yield "partly denormal", gaussian * np.where(np.arange(n) % 2 == 0, 1, float(info.tiny) / 8)
    yield "least normal", gaussian * float(info.tiny)
    yield "small", gaussian * float(info.tiny) ** 0.5
    yield "just under scaling", gaussian * 2.0**-18
    yield "rank one just under scaling", np.outer(gaussian[0], gaussian[-1]) * 2.0**-17
    yield "large", gaussian * float(info.max) ** 0.5
    yield "huge", np.clip(gaussian, -1, 1) * (float(info.max) / n)
    yield "largest", np.full((n, n), float(info.max))


BROKEN = (np.nan, np.inf, -np.inf)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [range(1, 13), (16, 17, 31, 32, 33, 64), (65, 127, 128)], ids=str)
def test_fuzz_native(native_solver, sizes, dtype, within):
    """Right, or NaN in each matrix that is not finite and in no other."""
    fuzz(partial(native_solver), sizes, dtype, within, "native")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fuzz_plain_xla(dtype, within):
    fuzz(SOLVERS["plain XLA"][1], (1, 9, 33), dtype, within, "plain XLA")


def fuzz(solve, sizes, dtype, within, claim):
    info = np.finfo(dtype)
    for n in sizes:
        rng = np.random.default_rng(n)
        names, G = zip(*(pair for _ in range(3) for pair in nasty(rng, n, dtype)), strict=True)
        G = np.array(G)[order := rng.permutation(len(G))].astype(dtype)
        broken = rng.random(len(G)) < 0.2
        places = rng.integers(n, size=(len(G), 2))
        fine = G.copy()
        for at in np.flatnonzero(broken):
            G[at, places[at, 0], places[at, 1]] = BROKEN[at % 3]
        with jax.enable_x64(dtype == np.float64):
            found, whole = np.asarray(solve(G)), np.asarray(solve(fine))
        np.testing.assert_array_equal(np.isnan(found), np.repeat(broken[:, None], n, 1))
        np.testing.assert_array_equal(found[~broken], whole[~broken])
        scale = np.maximum(np.abs(fine).max(axis=(1, 2)), info.tiny)[:, None].astype(dtype)
        right = np.linalg.svd((fine / scale[..., None]).astype(np.float64), compute_uv=False)
        assert (np.diff(whole) <= 0).all()
        with np.errstate(over="ignore"):
            overflow = (right * scale.astype(np.float64)).astype(dtype) > 0.99 * info.max
        np.testing.assert_array_equal(np.isinf(whole) & ~overflow, False)
        # LAPACK, which is what is right here, works in float64 and promises no better than n eps.
        share = turns_error(n, dtype) + 2 * n * float(np.finfo(np.float64).eps)
        allowed = (
            share * right[:, :1]
            + n
            * (fine != 0).any(axis=(1, 2))[:, None]
            * np.where(
                np.abs(fine).max(axis=(1, 2)) < n * info.tiny / info.eps, info.tiny / scale[:, 0], 0
            )[:, None]
        )
        off = np.where(overflow, 0, np.abs(whole / scale - right))
        for kind, error, bound in zip(np.array(names)[order], off, allowed, strict=True):
            within(f"{claim}, {dtype.__name__}, {kind}", np.max(error), np.max(bound))
