"""What the numbers were measured on, without naming the machine."""

import os
import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

# XLA's CPU client takes the size of its thread pool from NPROC.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NPROC",
)
_ONE_THREAD_XLA = "--xla_cpu_multi_thread_eigen=false"

_DISTRIBUTIONS = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
    "scipy",
    "torch",
    "transformers",
    "gradience",
    "pymanopt",
    "adaptersentry",
)


def cores() -> int:
    """CPUs that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def thread_environment(threads: int) -> dict[str, str]:
    """This process's environment, with every library told to use so many threads."""
    changed = dict.fromkeys(THREAD_VARIABLES, str(threads))
    if threads == 1:
        changed["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_ONE_THREAD_XLA}".strip()
    return os.environ | changed


def installed(distribution: str) -> str | None:
    """Its version, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def describe_machine() -> dict[str, Any]:
    """Processor, cores and versions; imports nothing that starts threads."""
    return {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "cores": cores(),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "versions": {"python": platform.python_version()}
        | {name: installed(name) or "not installed" for name in _DISTRIBUTIONS},
    }


def describe_process() -> dict[str, Any]:
    """Devices and thread settings of the process that measures."""
    import jax

    import jaxtask

    device = jax.devices()[0]
    return {
        "jaxtask": jaxtask.__version__,
        "jax_backend": jax.default_backend(),
        "jax_device": device.device_kind,
        "jax_devices": jax.device_count(),
        "torch_device": _torch_device(),
        "thread_variables": {name: os.environ.get(name) for name in THREAD_VARIABLES},
        "xla_multi_thread_eigen": _ONE_THREAD_XLA not in os.environ.get("XLA_FLAGS", ""),
    }


def command(module: str, arguments: Sequence[str]) -> str:
    """The command line, with directories of absolute paths left out."""
    return " ".join(["python -m", module, *(re.sub(r"(^|=)/\S*/", r"\1", a) for a in arguments)])


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            models = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
        return models[0]
    except (OSError, IndexError):
        return platform.processor() or "unknown"


def _torch_device() -> str:
    if installed("torch") is None:
        return "not installed"
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
