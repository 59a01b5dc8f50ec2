"""What decides the bits of a result, and how it is told that two results have it in common."""

import hashlib
import json
import platform
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from jaxtask.adapters import Adapter, AdapterBank
from jaxtask.engine.program import Program
from jaxtask.errors import ResultError
from jaxtask.metrics import METRICS, Metric, Pair, Side
from jaxtask.text_files import parse_json
from jaxtask.version import __version__
from jaxtask_kernels.native import native, threads

SETTINGS = (
    *("metrics", "sides", "keep", "dtype", "padding", "rank_rtol"),
    *("versions", "device", "native"),
)
"""The attributes of a result that must be equal for its numbers to be, besides the adapters."""


def attributes(
    bank: AdapterBank, program: Program, rank_rtol: float | None, command: str | None
) -> dict[str, Any]:
    """What one must know to read the numbers, and to get them again."""
    return {
        "versions": json.dumps(
            {m.__name__: m.__version__ for m in (jax, jaxlib, np)}
            | {"jaxtask": __version__, "python": platform.python_version()}
        ),
        "device": f"{jax.default_backend()}: {jax.devices()[0].device_kind}",
        "native": native().about,
        "dtype": program.dtype,
        "metrics": json.dumps({metric.name: _recipe(metric) for metric in program.metrics}),
        "sides": ",".join(program.sides),
        "keep": ",".join(program.keep),
        "padding": program.padding,
        "rank_rtol": "4*sqrt(r)*eps" if rank_rtol is None else rank_rtol,
        "convention": "source is ΔW₁ (spaces and S₁), target is ΔW₂; angles in radians",
        "base_model": bank.base_model or "",
        "adapters": json.dumps(bank.describe()),
        "command": command or "",
    }


def settings(attrs: dict[str, Any]) -> dict[str, Any]:
    """Those of the attributes that must be equal."""
    found = {name: attrs.get(name) for name in SETTINGS}
    versions = parse_json(attrs.get("versions", "{}"), "attribute versions", ResultError)
    versions.pop("python", None)  # changes no number
    return found | {"versions": versions}


def digests(bank: AdapterBank) -> dict[str, str]:
    """A digest of the numbers of every adapter, by task. Reads all files."""
    with ThreadPoolExecutor(threads()) as pool:
        found = pool.map(Adapter.digest, bank.adapters)
        return dict(zip(bank.tasks, found, strict=True))


def differences(there: dict[str, Any], now: dict[str, Any]) -> str:
    """What of `there` is not so now, in words; empty if all is."""
    return "; ".join(
        f"{name} {_short(there.get(name))} there, {_short(now.get(name))} now"
        for name in {**there, **now}
        if there.get(name) != now.get(name)
    )


def changed(there: dict[str, str], now: dict[str, str]) -> str:
    """Which adapters of `there` are gone or hold other numbers now, in words; empty if none."""
    gone = [name for name in there if name not in now]
    other = [name for name in there if name in now and there[name] != now[name]]
    told = [f"not given: {_some(gone)}"] if gone else []
    return "; ".join(told + ([f"with other numbers: {_some(other)}"] if other else []))


def _recipe(metric: Metric) -> str:
    """A digest of what a user's metric computes, as JAX writes it down; none for the package's."""
    if METRICS.get(metric.name) == metric:
        return ""
    vector, matrix, rank = _array(2), _array(2, 2), _array(dtype=jnp.int32)
    side = Side(matrix, vector, rank, rank, matrix)
    pair = Pair(vector, vector, rank, rank, side, side)
    written = str(jax.make_jaxpr(metric)(side if metric.sided else pair))
    # Functions that JAX cannot look into are written with their place in memory.
    written = f"{metric.symmetric} {re.sub('0x[0-9a-f]+', '', written)}"
    return hashlib.sha256(written.encode()).hexdigest()[:16]


def _array(*shape: int, dtype: Any = jnp.float32) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
