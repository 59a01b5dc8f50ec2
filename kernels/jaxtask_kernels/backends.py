"""Which implementation of a kernel runs, decided in one place.

`BACKENDS` is the table. `singular_values` and the engine call what `backend_for` finds in it, and
`stages` says the same in words, for `jaxtask doctor` and for the attributes of a result.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from jaxtask_kernels import bidiagonal, native
from jaxtask_kernels._linalg import widest

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""As XLA calls them; `jax.default_backend()` says "gpu" for the second and the third."""

_ANY = range(sys.maxsize)


@dataclass(frozen=True)
class Backend:
    """An implementation of singular values, and where it is used.

    Attributes:
        name: What users are told.
        singular_values: [..., m, n] → [..., min(m, n)], descending.
        platforms: Platforms it runs on, of `PLATFORMS`.
        sizes: The max(m, n) that it takes.
        available: Whether it can be used in this process.
        lapack: Whether its programs for CPUs contain decompositions of LAPACK, of which no two may
            run at the same time; see `after` in `_linalg.py`.
        angles: Its function for angles like `native.angles`, if it has one.

    """

    name: str
    singular_values: Callable[[Array], Array]
    platforms: tuple[str, ...] = PLATFORMS
    sizes: range = _ANY
    available: Callable[[], bool] = lambda: True
    lapack: bool = False
    angles: Callable[..., native.Angles] | None = None

    def runs_on(self, platform: str) -> bool:
        """Whether it can be used on this platform, in this process."""
        return self.is_for(platform) and self.available()

    def is_for(self, platform: str) -> bool:
        """Whether it is made for this platform."""
        return ("cuda" if platform == "gpu" else platform) in self.platforms


def platform_svd(G: Array) -> Array:
    """Singular values [..., min(m, n)] of [..., m, n] by `jnp.linalg.svd`: LAPACK on CPU."""
    # In float64 where it is enabled, which costs LAPACK no more: in float32 it is off by 70 eps
    # where values cluster.
    return jnp.linalg.svd(G.astype(widest(G.dtype)), compute_uv=False).astype(G.dtype)


def _squared(solve: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """`solve` for square matrices, for all: zero rows or columns add values that are zero."""

    def solved(G: Array) -> Array:
        m, n = G.shape[-2:]
        square = [(0, 0)] * (G.ndim - 2) + [(0, max(n - m, 0)), (0, max(m - n, 0))]
        return solve(jnp.pad(G, square))[..., : min(m, n)]

    return solved


NATIVE = Backend(
    "native library",
    _squared(native.singular_values),
    platforms=("cpu",),
    sizes=range(native.LARGEST + 1),
    available=lambda: native.native().library is not None,
    angles=native.angles,
)

BACKENDS: tuple[Backend, ...] = (
    NATIVE,
    Backend(
        "plain XLA",
        _squared(bidiagonal.singular_values),
        platforms=("cuda", "rocm", "tpu"),
        sizes=range(bidiagonal.LARGEST + 1),
    ),
    Backend("LAPACK", platform_svd, platforms=("cpu",), lapack=True),
    Backend("the platform's own", platform_svd, lapack=True),
)
"""The first that fits is used."""


def backend_for(n: int, platform: str) -> Backend:
    """What computes the singular values of matrices of up to n rows and columns.

    Args:
        n: max(m, n) of [..., m, n].
        platform: One of `PLATFORMS`, or what `jax.default_backend()` says.

    """
    fitting = (b for b in BACKENDS if n in b.sizes and b.runs_on(platform))
    return next(fitting, BACKENDS[-1])


def stages(platform: str) -> dict[str, str]:
    """What each stage of a comparison is computed by on this platform, in words."""
    found = {"factors, Gram blocks": NATIVE.name if NATIVE.runs_on(platform) else "XLA"}
    some = [b.sizes for b in BACKENDS if b.is_for(platform)]
    edges = {edge for sizes in some for edge in (sizes.start, sizes.stop)}
    starts = sorted(({0} | edges) - {_ANY.stop})
    for start, stop in zip(starts, [*starts[1:], None], strict=True):
        beyond = "larger ones" if start else "of any size"
        sizes = beyond if stop is None else f"up to {stop - 1}"
        found[sizes if start else f"singular values {sizes}"] = backend_for(start, platform).name
    return found
