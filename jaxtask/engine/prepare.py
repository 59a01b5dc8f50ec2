"""A comparison that is ready to run: all that is known of it before any number is."""

import hashlib
import json
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from jaxtask.adapters import AdapterBank, ModuleKey, ModuleShape
from jaxtask.engine import plan as planning
from jaxtask.engine.backend import memory_of_a_device, modules_at_once, tiles_at_once
from jaxtask.engine.plan import Plan, default_budget, new_pairs, plan
from jaxtask.engine.schema import Layout, layout
from jaxtask.engine.spec import ComparisonSpec, Padding
from jaxtask.errors import JaxtaskError
from jaxtask.metrics import METRICS, SIDES, Metric, Pair, Side, resolve
from jaxtask.version import __version__
from jaxtask_kernels.backends import stages
from jaxtask_kernels.native import native


@dataclass(frozen=True, eq=False)
class Comparison:
    """What is compared and how, with all that follows from that, each made once.

    Attributes:
        bank: The adapters; the result has the tasks in their order.
        spec: What to compute.
        attributes: Attributes of the result.
        rank_rtol: See `compare`.
        budget: Bytes of main memory; None for half of what is available when plans are made.
        known: How many tasks, the first, have been compared with each other before.

    """

    bank: AdapterBank
    spec: ComparisonSpec
    attributes: Mapping[str, Any]
    rank_rtol: float | None = None
    budget: int | None = None
    known: int = 0

    @cached_property
    def plans(self) -> dict[ModuleKey, Plan]:
        """A plan for every module, in the order in which they are compared."""
        budget = default_budget() if self.budget is None else self.budget
        return plans(self.bank, self.spec, budget, self.known)

    @cached_property
    def layout(self) -> Layout:
        """Coordinates and variables of the result."""
        return layout(self.bank, self.spec)

    def pairs(self, keys: Iterable[ModuleKey]) -> int:
        """Unordered pairs of these modules that are to be compared."""
        present = map(self.bank.present, keys)
        return sum(new_pairs(len(tasks), int((tasks < self.known).sum())) for tasks in present)


def prepare(
    bank: AdapterBank,
    *,
    metrics: Sequence[str | Metric] | str | None = None,
    sides: Sequence[str] | str = SIDES,
    dtype: str = "float32",
    padding: Padding = "pi/2",
    keep: Sequence[str] | str = (),
    rank_rtol: float | None = None,
    memory_budget: int | None = None,
    command: str | None = None,
) -> Comparison:
    """What these arguments of `compare` ask for.

    Raises:
        JaxtaskError: One of them is not known.

    """
    if not isinstance(memory_budget, int | None):
        raise JaxtaskError(f"memory_budget must be a whole number of bytes, got {memory_budget!r}")
    if rank_rtol is not None and not 0 <= rank_rtol < 1:
        raise JaxtaskError(f"rank_rtol must be in [0, 1), got {rank_rtol}")
    spec = ComparisonSpec(resolve(metrics), _several(sides), dtype, padding, _several(keep))
    about = attributes(bank, spec, rank_rtol, command)
    return Comparison(bank, spec, about, rank_rtol, memory_budget)


def _several(names: Sequence[str] | str) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


# -------------------------------------------------------------------------------------------- plans


def plans(
    bank: AdapterBank, spec: ComparisonSpec, budget: int, known: int = 0
) -> dict[ModuleKey, Plan]:
    """A plan for every module, the same for all modules of one shape bucket, which come together.

    `known` is how many tasks, the first, have been compared with each other before.
    """
    sizes = planning.CPU if jax.default_backend() == "cpu" else planning.ACCELERATOR
    buckets: dict[tuple[ModuleShape, np.dtype], list[ModuleKey]] = {}
    for key in bank.modules:
        buckets.setdefault((bank.shape(key), bank.dtype(key)), []).append(key)
    found: dict[ModuleKey, Plan] = {}
    for (shape, stored), keys in buckets.items():
        present = [bank.present(key) for key in keys]
        threads = modules_at_once(spec, shape.rank)
        devices = tiles_at_once(spec, shape.rank)
        tasks = max(map(len, present))
        share = min(budget // devices, memory_of_a_device())
        made = plan(shape, tasks, stored, spec, share, threads, sizes)
        added = max(int(np.sum(tasks >= known)) for tasks in present) if known else 0
        made = replace(made, devices=devices, added=min(made.block, added))
        found |= dict.fromkeys(keys, made)
    return found


# --------------------------------------------------------------------------------------- attributes


def attributes(
    bank: AdapterBank, spec: ComparisonSpec, rank_rtol: float | None, command: str | None
) -> dict[str, Any]:
    """What one must know to read the numbers, and to get them again."""
    computed_by = stages(jax.default_backend())
    return {
        "versions": json.dumps(
            {m.__name__: m.__version__ for m in (jax, jaxlib, np)}
            | {"jaxtask": __version__, "python": platform.python_version()}
        ),
        "device": f"{jax.default_backend()}: {jax.devices()[0].device_kind}",
        "native": native().about,
        "kernels": "; ".join(f"{what}: {name}" for what, name in computed_by.items()),
        "dtype": spec.dtype,
        "metrics": json.dumps({metric.name: _recipe(metric) for metric in spec.metrics}),
        "sides": ",".join(spec.sides),
        "keep": ",".join(spec.keep),
        "padding": spec.padding,
        "rank_rtol": "4*sqrt(r)*eps" if rank_rtol is None else rank_rtol,
        "convention": "source is ΔW₁ (spaces and S₁), target is ΔW₂; angles in radians",
        "base_model": bank.base_model or "",
        "adapters": json.dumps(bank.describe()),
        "command": command or "",
    }


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
