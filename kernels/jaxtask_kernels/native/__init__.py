"""The CPU backend in C++: used where it was built; where it was not, only time is lost."""

import ctypes
import os
import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import NamedTuple

import jax
import jaxlib
import numpy as np
from jax import Array
from numpy.typing import DTypeLike


def _limits() -> dict[str, float]:
    """The numbers of `limits.h`, by their names there."""
    header = (Path(__file__).parent / "limits.h").read_text(encoding="utf-8")
    found = re.findall(r"^constexpr \w+ k(\w+) = ([\d.]+)f?;", header, re.MULTILINE)
    return {name: float(number) for name, number in found}


LARGEST = int(_limits()["Largest"])
"""n of the largest matrices; the handlers refuse larger ones."""

NEAR = _limits()["Near"]
"""The cosine above which a pair of bases is near, and its angles come from sines."""

_SWEEPS_PER_VALUE = 30
HANDLERS = ("jaxtask_singular_values_f32", "jaxtask_singular_values_f64", "jaxtask_angles")


class Native(NamedTuple):
    """The loaded library, or why there is none.

    Attributes:
        about: The instructions that it uses, or the reason.
        broken: It is there, and cannot be used.

    """

    library: ctypes.CDLL | None
    about: str
    broken: bool = False


@cache
def native() -> Native:
    """Load the library once; JAXTASK_NATIVE=0 in the environment leaves it out.

    With JAXTASK_NATIVE=baseline or avx2 it uses no more than those instructions of x86.
    """
    if os.environ.get("JAXTASK_NATIVE") == "0":
        return Native(None, "JAXTASK_NATIVE=0 is set")
    here = Path(__file__).parent
    built = [here / f"_native{suffix}" for suffix in EXTENSION_SUFFIXES]
    built = [path for path in built if path.exists()]
    if not built:
        return Native(None, "not built: no C++ compiler was found when the package was installed")
    try:
        library = ctypes.CDLL(str(built[0]))
        wanted = library.jaxtask_interface_major(), library.jaxtask_interface_minor()
        has = _interface()
        if wanted[0] != has[0] or wanted > has:
            raise RuntimeError(
                f"it is built for version {wanted[0]}.{wanted[1]} of XLA's foreign function "
                f"interface, jaxlib {jaxlib.__version__} has {has[0]}.{has[1]}: "
                "install jaxtask again"
            )
        for name in HANDLERS:
            jax.ffi.register_ffi_target(
                name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu"
            )
        library.jaxtask_variant.restype = ctypes.c_char_p
        library.jaxtask_factor.restype = library.jaxtask_product.restype = None
        return Native(library, library.jaxtask_variant().decode())
    except (OSError, AttributeError, KeyError, RuntimeError, jax.errors.JaxRuntimeError) as error:
        # Another machine's library, or one for another version of jaxlib.
        return Native(None, f"{built[0].name} cannot be loaded: {error}", broken=True)


def _interface() -> tuple[int, int]:
    """Version of XLA's foreign function interface that the installed jaxlib has.

    With a handler for a newer one, JAX does not start: it says so when it has been registered.
    """
    header = Path(jax.ffi.include_dir(), "xla/ffi/api/c_api.h").read_text(encoding="utf-8")
    found = dict(re.findall(r"^#define XLA_FFI_API_(MAJOR|MINOR) (\d+)$", header, re.MULTILINE))
    return int(found["MAJOR"]), int(found["MINOR"])


def singular_values(G: Array, sweeps: int | None = None) -> Array:
    """Singular values [..., n] of [..., n, n], n ≤ LARGEST, on CPU, in G's own precision.

    After so many sweeps of dqds (30 for each value by default, of which it takes about 4) a value
    that is still to be found is found by bisection.
    """
    n = G.shape[-1]
    name = f"jaxtask_singular_values_{'f32' if G.dtype == np.float32 else 'f64'}"
    call = jax.ffi.ffi_call(
        name, jax.ShapeDtypeStruct(G.shape[:-1], G.dtype), vmap_method="broadcast_all"
    )
    return call(G, sweeps=np.int64(_SWEEPS_PER_VALUE * (n + 1) if sweeps is None else sweeps))


class Angles(NamedTuple):
    """How P pairs of spaces lie.

    Attributes:
        cosines: [P, r] descending.
        sines: [P, r] ascending, 1 for what pads the second basis.
        there: [P, r, r] products of what of the second basis lies outside the first one's space.
        back: [P, r, r] products of what of the first basis lies outside the second one's space.

    """

    cosines: Array
    sines: Array
    there: Array | None
    back: Array | None


def angles(
    X: Array,
    Y: Array,
    gram: Array,
    ranks: tuple[Array, Array],
    a: Array,
    b: Array,
    same: Array,
    *,
    outside: bool,
) -> Angles:
    """Principal angles of P pairs of orthonormal bases, on CPU.

    Args:
        X: [s, r, d] float32, bases by rows.
        Y: [t, r, d] float32
        gram: [s, r, t, r] products of all their rows.
        ranks: [s] and [t] int32 of X and Y; the rows after are zero.
        a: [P] int32 indices into X.
        b: [P] int32 indices into Y.
        same: [P] bool, the two are one by definition: nothing of one lies outside the other.
        outside: Return `there` and `back` as well.

    """
    P, r = a.shape[0], X.shape[1]
    each = jax.ShapeDtypeStruct((P, r), X.dtype)
    square = jax.ShapeDtypeStruct((P, r, r) if outside else (0,), X.dtype)
    call = jax.ffi.ffi_call("jaxtask_angles", (each, each, square, square))
    sweeps = np.int64(_SWEEPS_PER_VALUE * (r + 1))
    cosines, sines, there, back = call(X, Y, gram, *ranks, a, b, same, sweeps=sweeps)
    return Angles(cosines, sines, there if outside else None, back if outside else None)


def aligned_empty(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """An uninitialised array that XLA can read where it lies: aligned to 64 bytes."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


Empty = Callable[[tuple[int, ...], DTypeLike], np.ndarray]


class Factored(NamedTuple):
    """As `FactorRows`, in NumPy, for the updates that are `fine`.

    Attributes:
        fine: [n] bool, for those that are not padding.

    """

    U: np.ndarray | None
    V: np.ndarray | None
    s: np.ndarray
    rank: np.ndarray
    fine: np.ndarray


def factor_updates(
    B: Sequence[np.ndarray],
    A: Sequence[np.ndarray],
    dtype: np.dtype,
    scale: np.ndarray,
    rtol: np.ndarray,
    *,
    shape: tuple[int, int],
    kappa: float,
    need_u: bool = True,
    need_v: bool = True,
    threads: int = 1,
    empty: Empty = aligned_empty,
) -> Factored:
    """Thin SVDs of n updates scale·B·A, read where they lie, in float64 and rounded to float32.

    Args:
        B: N of [d_out, r_i], float32 or float64.
        A: N of [r_i, d_in].
        dtype: That they are read in, where they lie if it is their own.
        scale: [n] float64; its sign goes into V.
        rtol: [n] float64, relative size under which a singular value counts as zero.
        shape: Number of updates and rank that the result is padded to with zeros.
        kappa: An update with a factor of a condition number above this (of its columns scaled to
            norm one, bounded from above) is not `fine`, and left to a more careful method.
        need_u: Return U [n, r, d_out].
        need_v: Return V [n, r, d_in].
        threads: Number of threads to use.
        empty: Makes the arrays of the result, C-contiguous.

    """
    library = native().library
    assert library is not None
    n, d_out, d_in = len(B), B[0].shape[0], A[0].shape[1]
    B, A = ([np.ascontiguousarray(x, dtype) for x in factors] for factors in (B, A))
    scale, rtol = (np.ascontiguousarray(x, np.float64) for x in (scale, rtol))
    ranks = np.array([x.shape[1] for x in B], np.int64)
    padded, r = shape
    U = empty((padded, r, d_out), np.float32) if need_u else None
    V = empty((padded, r, d_in), np.float32) if need_v else None
    s = empty((padded, r), np.float32)
    for made in (U, V, s):
        if made is not None:
            made[n:] = 0
    rank, fine = np.zeros(padded, np.int32), np.zeros(n, np.uint8)
    pointers = ctypes.c_void_p * n
    library.jaxtask_factor(
        ctypes.c_int64(n),
        ctypes.c_int64(B[0].itemsize),
        pointers(*map(_address, B)),
        pointers(*map(_address, A)),
        _pointer(ranks),
        _pointer(scale),
        _pointer(rtol),
        ctypes.c_int64(d_out),
        ctypes.c_int64(d_in),
        ctypes.c_int64(r),
        ctypes.c_double(kappa),
        _pointer(U),
        _pointer(V),
        _pointer(s),
        _pointer(rank),
        _pointer(fine),
        ctypes.c_int64(threads),
    )
    return Factored(U, V, s, rank, fine.astype(bool))


def gram_rows(
    X: np.ndarray, Y: np.ndarray, *, threads: int = 1, empty: Empty = aligned_empty
) -> np.ndarray:
    """Products of all bases by rows, [S, k, d] and [T, l, d] → [S, k, T, l].

    Where Y is X, only [s, :, t, :] with s ≤ t is computed: the rest is not to be read.
    """
    library = native().library
    assert library is not None
    (S, k, d), (T, l, _) = X.shape, Y.shape  # noqa: E741
    out = empty((S, k, T, l), X.dtype)
    library.jaxtask_product(
        ctypes.c_int64(X.itemsize),
        _pointer(X),
        _pointer(Y),
        _pointer(out),
        ctypes.c_int64(S * k),
        ctypes.c_int64(T * l),
        ctypes.c_int64(d),
        ctypes.c_int64(k if X is Y else 0),
        ctypes.c_int64(threads),
    )
    return out


def threads() -> int:
    """CPUs that this process may use, or fewer if OMP_NUM_THREADS says so."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cpus = os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(cpus, int(wanted)) if wanted.isdecimal() and int(wanted) > 0 else cpus


def _pointer(x: np.ndarray | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if x is None else _address(x))


def _address(x: np.ndarray) -> int:
    return x.__array_interface__["data"][0]  # four times as fast as x.ctypes.data
