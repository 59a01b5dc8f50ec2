"""`backend_for` is what runs, and what is said."""

import jax
import numpy as np
import pytest
from jax import export

from jaxtask_kernels import backends, native, singular_values
from jaxtask_kernels.backends import BACKENDS, NATIVE, PLATFORMS, Backend, backend_for, stages

LIBRARY = native.native().library is not None
SMALL = {"cpu": "native library" if LIBRARY else "LAPACK", "cuda": "plain XLA"}
LARGE = {"cpu": "LAPACK", "cuda": "the platform's own"}
SMALL |= dict.fromkeys(("rocm", "tpu", "gpu"), SMALL["cuda"])
LARGE |= dict.fromkeys(("rocm", "tpu", "gpu"), LARGE["cuda"])


@pytest.mark.parametrize("platform", [*PLATFORMS, "gpu"])
def test_what_is_chosen(platform):
    for n in (0, 1, 16, 128):
        assert backend_for(n, platform).name == SMALL[platform]
    for n in (129, 10**6):
        assert backend_for(n, platform).name == LARGE[platform]
    said = stages(platform)
    library = platform == "cpu" and LIBRARY
    assert said.pop("factors, Gram blocks") == ("native library" if library else "XLA")
    assert said.pop("larger ones") == LARGE[platform]
    assert [*said][-1].endswith("up to 128")
    for sizes, name in said.items():
        assert name == backend_for(int(sizes.split()[-1]), platform).name


def test_a_platform_of_another_name_has_its_own():
    assert backend_for(4, "metal").name == "the platform's own"
    assert stages("metal")["singular values of any size"] == "the platform's own"


@pytest.mark.usefixtures("without_native")
def test_without_the_native_library():
    chosen = backend_for(16, "cpu")
    assert (chosen.name, chosen.lapack, chosen.angles) == ("LAPACK", True, None)
    assert not NATIVE.runs_on("cpu")
    assert stages("cpu")["factors, Gram blocks"] == "XLA"


CALLS = {
    "native library": "jaxtask_singular_values_f32",
    "LAPACK": "lapack_",
    "plain XLA": None,
}


@pytest.mark.parametrize("n", [5, 129])
@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_what_is_chosen_is_what_is_compiled(platform, n):
    """The program calls the library of the backend, and none where there is no library in it."""
    ours = [export.DisabledSafetyCheck.custom_call(name) for name in native.HANDLERS]
    shape = jax.ShapeDtypeStruct((3, n, n), np.float32)
    made = export.export(jax.jit(singular_values), platforms=[platform], disabled_checks=ours)
    text = made(shape).mlir_module()
    call = CALLS.get(backend_for(n, platform).name, "custom_call")
    assert ("custom_call" in text) == (call is not None)
    assert call is None or call in text


def test_lapack_is_said_of_every_backend_that_calls_it():
    """Where `lapack` is not set the engine runs programs side by side, in which it can hang."""
    shape = jax.ShapeDtypeStruct((3, 5, 5), np.float32)
    for backend in BACKENDS:
        if "cpu" in backend.platforms and backend.available():
            text = jax.jit(backend.singular_values).lower(shape).as_text()
            assert backend.lapack == ("lapack_" in text), backend.name


def test_the_first_that_fits_is_used(monkeypatch):
    """In its sizes and on its platforms, once it is available; with words for its sizes."""
    there = False

    def twice(G):
        return 2 * backends.platform_svd(G)

    other = Backend("twice", twice, ("cpu",), range(4, 6), lambda: there, lapack=True)
    on_cuda = stages("cuda")
    monkeypatch.setattr(backends, "BACKENDS", (other, *BACKENDS))
    G = np.random.default_rng(0).standard_normal((5, 5, 4)).astype(np.float32)
    larger = np.random.default_rng(1).standard_normal((5, 6, 4)).astype(np.float32)
    right, of_larger = (np.linalg.svd(x.astype(float), compute_uv=False) for x in (G, larger))
    np.testing.assert_allclose(singular_values(G), right, rtol=1e-5)
    there = True
    jax.clear_caches()
    np.testing.assert_allclose(singular_values(G), 2 * right, rtol=1e-5)
    np.testing.assert_allclose(singular_values(larger), of_larger, rtol=1e-5)
    jax.clear_caches()
    assert backend_for(4, "cuda").name == "plain XLA"
    assert stages("cpu")["up to 5"] == "twice"
    assert stages("cuda") == on_cuda, "nothing is said of what is for other platforms"
