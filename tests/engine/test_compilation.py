"""What is compiled, how often, and for which platforms."""

from collections import Counter
from contextlib import contextmanager
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax import export

import jaxtask as jt
from jaxtask.engine.pair_stage import measure_tile
from jaxtask.engine.prepare import plans
from jaxtask.engine.spec import ComparisonSpec
from jaxtask.metrics import METRICS, resolve
from jaxtask_kernels import (
    factor,
    gram_blocks,
    native,
    orthonormal_basis,
    principal_angles,
    singular_values,
)
from jaxtask_kernels.factor_rows import FactorRows, factor_rows
from makers import random_bank

pytestmark = pytest.mark.usefixtures("compile_fully")

COMPILED = "/jax/core/compile/backend_compile_duration"


@contextmanager
def compilations():
    """Counts every backend compilation inside, eager operations included."""
    counted = Counter()

    def listen(event, duration, **details):
        if event == COMPILED:
            counted[details.get("fun_name", "?")] += 1

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield counted
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def bank(tasks, shapes, seed=0):
    named = {f"layers.{n}.proj": shape for n, shape in enumerate(shapes)}
    return random_bank([f"task{t}" for t in range(tasks)], named, seed)


# With native code the factor stage compiles nothing.
PROGRAMS = {"native": 1, "compiled": 2}


@pytest.mark.slow
def test_one_compilation_a_bucket_and_none_the_second_time(backend):
    # Shapes that no other test uses, so that nothing is compiled already.
    shapes = [(40, 36, 3), (40, 36, 3), (40, 36, 3), (52, 36, 3), (52, 36, 3)]
    run = partial(jt.compare, metrics=["grassmann", "l2"])
    with compilations() as first:
        run(bank(6, shapes))
    assert sum(first.values()) == 2 * PROGRAMS[backend], first
    with compilations() as second:
        run(bank(6, shapes, seed=1))
    assert not second


@pytest.mark.slow
def test_tiles_of_one_sweep_share_one_compilation(backend):
    """Full, diagonal and ragged tiles run the same program."""
    many, budget = bank(23, [(44, 28, 4)]), 200_000
    spec = ComparisonSpec(resolve(["grassmann", "cosine"]))
    (made,) = plans(many, spec, budget).values()
    assert made.blocks > 2
    assert 23 % made.block
    with compilations() as counted:
        jt.compare(many, metrics=spec.metrics, memory_budget=budget)
    assert sum(counted.values()) == PROGRAMS[backend], counted


@pytest.mark.slow
def test_nothing_but_compiled_code_is_kept(backend):
    run = partial(jt.compare, bank(5, [(48, 32, 3)]), metrics=["grassmann", "l2"])
    run()
    before = len(jax.live_arrays())
    run()
    assert len(jax.live_arrays()) <= before


def shaped(*shape, dtype="float32"):
    return jax.ShapeDtypeStruct(shape, dtype)


KERNELS = {
    "principal_angles": (principal_angles, (shaped(3, 96, 5), shaped(3, 96, 4))),
    "principal_angles_gradient": (
        jax.grad(lambda X, Y: principal_angles(X, Y).sum()),
        (shaped(96, 5), shaped(96, 4)),
    ),
    "orthonormal_basis": (orthonormal_basis, (shaped(3, 96, 5),)),
    "factor": (factor, (shaped(3, 96, 5), shaped(3, 5, 64))),
    "gram_blocks": (gram_blocks, (shaped(3, 96, 5),)),
    "singular_values": (singular_values, (shaped(9, 5, 5),)),
}


def exported(function, platform):
    """For a look at what can be lowered: it is the library's own calls that are let through."""
    ours = [export.DisabledSafetyCheck.custom_call(name) for name in native.HANDLERS]
    return export.export(jax.jit(function), platforms=[platform], disabled_checks=ours)


@pytest.mark.parametrize("platform", ["tpu", "cuda", "cpu"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_lower_for_every_platform(kernel, platform):
    function, arguments = KERNELS[kernel]
    lowered = exported(function, platform)(*arguments)
    assert lowered.platforms == (platform,)


def stages(dtype):
    """The two programs of the engine, and what goes in, for tiles of 3 tasks."""
    widen = partial(factor_rows, dtype=jnp.dtype(dtype), chunk=1)
    stored = (shaped(3, 48, 4), shaped(3, 4, 40), shaped(3), shaped(3))
    block = FactorRows(
        shaped(3, 4, 48, dtype=dtype),
        shaped(3, 4, 40, dtype=dtype),
        shaped(3, 4, dtype=dtype),
        shaped(3, dtype="int32"),
    )
    spec = ComparisonSpec(tuple(METRICS.values()), dtype=dtype, keep=("angles", "spectra"))
    pairs = (shaped(2, 3, 2, dtype="int32"), shaped(dtype="int32"), shaped(dtype="bool"))
    return (widen, stored), (partial(measure_tile, spec=spec), (block, block, None, *pairs))


@pytest.mark.parametrize(
    ("platform", "dtype", "x64"),
    [
        ("tpu", "float32", False),
        ("cuda", "float32", True),
        ("cuda", "float64", True),
        ("cpu", "float32", True),
    ],
)
@pytest.mark.parametrize("stage", [0, 1], ids=["factor", "pairs"])
def test_engine_lowers_for_every_platform(stage, platform, dtype, x64):
    with jax.enable_x64(x64):
        function, arguments = stages(dtype)[stage]
        exported(function, platform)(*arguments)
