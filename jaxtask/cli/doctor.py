"""What this installation computes with, and why; and whether it computes right."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

from jaxtask.terminal import print_json, standard_output
from jaxtask.version import __version__

# Sizes at which jaxlib 0.10.2 returns wrong sums on CPU.
_BAD_JAXLIB = "0.10.2"
_REDUCTION = (16, 16, 4096)

_OPTIONAL = {
    "gguf": "base models in GGUF files",
    "pyarrow": "corpora in parquet files",
    "torch": "only tests and benchmarks that compare with it",
}
_LEVELS = ("", "0", "baseline", "avx2")


def examine() -> dict[str, Any]:
    """Everything found, as JSON takes it; what is broken is listed under "problems"."""
    report: dict[str, Any] = {
        "jaxtask": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "jax": _version("jax"),
        "jaxlib": _version("jaxlib"),
    }
    problems: list[str] = []
    if report["jaxlib"] == _BAD_JAXLIB:
        problems.append(f"jaxlib {_BAD_JAXLIB} returns wrong sums on CPU: install another version")
    problems += _devices(report)
    if "devices" in report:
        problems += _backends(report)
        problems += _checks(report)
    report["threads"] = _threads()
    report["optional packages"] = {
        name: _version(name) or f"not installed; for {use}" for name, use in _OPTIONAL.items()
    }
    return report | {"problems": problems}


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _devices(report: dict[str, Any]) -> list[str]:
    """JAX's devices and settings, or the one problem that it cannot start."""
    try:
        import jax

        devices = jax.devices()
    # An assertion without words is how JAX says that a platform has no device here.
    except (ImportError, RuntimeError, AssertionError) as error:
        said = " ".join(str(error).split()) or "there is no such device"
        asked = os.environ.get("JAX_PLATFORMS", "")
        return [f"JAX does not start with JAX_PLATFORMS={asked!r}: {said:.300}"]
    report["devices"] = [f"{d.platform}:{d.id} {d.device_kind}" for d in devices]
    report["processes"] = jax.process_count()
    config: Any = jax.config  # its options are not known to type checkers
    report["x64"] = "enabled" if config.jax_enable_x64 else "off; comparisons turn it on"
    report["compile cache"] = config.jax_compilation_cache_dir or (
        "none; JAX_COMPILATION_CACHE_DIR names a folder to keep compiled programs in"
    )
    return []


def _backends(report: dict[str, Any]) -> list[str]:
    """What each stage is computed by."""
    import jax

    from jaxtask_kernels import native
    from jaxtask_kernels.backends import stages

    library, about, broken = native.native()
    problems = [f"native library: {about}"] if broken else []
    asked = os.environ.get("JAXTASK_NATIVE", "")
    if asked not in _LEVELS:
        known = ", ".join(filter(None, _LEVELS))
        problems.append(f"JAXTASK_NATIVE={asked} is unknown, expected one of {known}")
    if library is None:
        report["native library"] = f"none: {about}"
    else:
        why = f"no more, by JAXTASK_NATIVE={asked}" if asked in _LEVELS[2:] else "the best there is"
        report["native library"] = f"{about} ({why})"
    report["stages"] = stages(jax.default_backend())
    return problems


def _checks(report: dict[str, Any]) -> list[str]:
    """Two computations whose results are known."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxtask_kernels import singular_values

    rng = np.random.default_rng(0)
    k, m, d = _REDUCTION
    v, A = rng.standard_normal((k, d), "f"), rng.standard_normal((k, m, d), "f")
    found = np.asarray(jax.jit(lambda v, A: (v[:, None, :] * A).sum(0))(v, A))
    sums = float(np.abs(found - np.einsum("kd,kmd->md", v, A, dtype=np.float64)).max())
    G = rng.standard_normal((64, 8, 8), "f")
    right = np.linalg.svd(G.astype(np.float64), compute_uv=False)
    off = np.abs(np.asarray(singular_values(jnp.asarray(G))) - right) / right[:, :1]
    values = float(off.max() / np.finfo(np.float32).eps)
    report["checks"] = {
        "sums, largest error": f"{sums:.1g}",
        "singular values, largest error": f"{values:.1f} eps",
    }
    problems = []
    if not sums < 1e-3:
        problems.append(f"JAX returns wrong sums (off by {sums:.3g}): install another jaxlib")
    if not values < 16:
        problems.append(f"singular values are off by {values:.3g} eps of float32, expected < 16")
    return problems


def _threads() -> dict[str, Any]:
    from threadpoolctl import threadpool_info

    from jaxtask_kernels import native

    libraries = [
        f"{pool['internal_api']} {pool['version']}, {pool['num_threads']} threads"
        for pool in threadpool_info()
    ]
    return {
        "native library": native.threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
        "BLAS and OpenMP": libraries or "none loaded",
    }


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON on standard output instead of a table.")
    ] = False,
) -> None:
    """Show the active backends, and test them.

    Exit status 1 if something is broken.
    """
    from jaxtask.cli.doctor import examine

    report = examine()
    if as_json:
        print_json(report)
    else:
        console = standard_output()
        problems = report.pop("problems")
        for name, found in report.items():
            _print(console, name, found)
        for problem in problems or ["nothing is broken"]:
            sign = "broken: " if problems else ""
            console.print(sign + problem, soft_wrap=True)
        report["problems"] = problems
    if report["problems"]:
        raise typer.Exit(1)


def _print(console: Any, name: str, found: Any, indent: str = "") -> None:
    def line(text: str) -> None:
        console.print(indent + text, soft_wrap=True)

    if isinstance(found, dict):
        line(f"{name}:")
        for key, value in found.items():
            _print(console, key, value, indent + "  ")
    elif isinstance(found, list):
        line(f"{name}: {'; '.join(found)}")
    else:
        line(f"{name}: {found}")
