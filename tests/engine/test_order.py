"""No compiled CPU program runs two decompositions side by side.

jaxlib blocks a thread of XLA's pool in every batched LAPACK call until other threads of that pool
have done the work: two such calls at once on two cores never end. What can run at once is what does
not depend on each other, so the dependences in the compiled program are what is tested.
"""

import re
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxtask as jt
from engine.test_compilation import KERNELS, shaped, stages
from jaxtask.engine.pair_stage import measure_tile
from jaxtask.engine.spec import ComparisonSpec
from jaxtask.metrics import METRICS
from jaxtask_kernels import factor, principal_angles

pytestmark = pytest.mark.usefixtures("compile_fully", "without_native")

COMPUTATION = re.compile(r"^(?:ENTRY )?%([\w.\-]+) .*\{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%([\w.\-]+) = .*?[\])}] ([\w\-]+)\((.*)$")
NAME = re.compile(r"%([\w.\-]+)")


def computations(text):
    """HLO text as {computation: {instruction: (opcode, names it mentions, line)}}."""
    found, current = {}, None
    for line in text.splitlines():
        if head := COMPUTATION.match(line):
            current = found.setdefault(head[1], {})
        elif current is not None and (part := INSTRUCTION.match(line)):
            current[part[1]] = (part[2], set(NAME.findall(part[3])), line)
    return found


def unordered(text):
    """Pairs of decompositions, or of loops and branches that hold some, that may run at once."""
    all_of = computations(text)

    def decomposes(name, seen=()):
        return any(
            "lapack" in line
            or any(n in all_of and n not in seen and decomposes(n, (*seen, n)) for n in mentioned)
            for _, mentioned, line in all_of[name].values()
        )

    bad, heavy_in_all = [], 0
    for instructions in all_of.values():
        above = {}
        for name, (_, mentioned, _) in instructions.items():
            own = mentioned & instructions.keys()
            above[name] = own.union(*(above.get(n, set()) for n in own))
        heavy = [
            name
            for name, (_, mentioned, line) in instructions.items()
            if ("custom-call" in line and "lapack" in line)
            or any(n in all_of and decomposes(n) for n in mentioned)
        ]
        heavy_in_all += len(heavy)
        bad += [
            (a, b) for a, b in combinations(heavy, 2) if a not in above[b] and b not in above[a]
        ]
    return bad, heavy_in_all


def check(function, *arguments):
    bad, heavy = unordered(jax.jit(function).lower(*arguments).compile().as_text())
    assert heavy, "no decomposition found: has the text of compiled programs changed?"
    assert not bad


def test_the_check_sees_what_it_is_for():
    def side_by_side(X, Y):
        return jnp.linalg.cholesky(X), jnp.linalg.cholesky(Y)

    def in_turn(X):
        return jnp.linalg.cholesky(jnp.linalg.cholesky(X) + X)

    x = shaped(4, 5, 5)
    assert unordered(jax.jit(side_by_side).lower(x, x).compile().as_text())[0]
    assert unordered(jax.jit(in_turn).lower(x).compile().as_text()) == ([], 2)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", sorted(set(KERNELS) - {"gram_blocks"}))
def test_kernels(kernel):
    function, arguments = KERNELS[kernel]
    check(function, *arguments)


@pytest.mark.slow
@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("orthonormal", [False, True])
def test_derivatives(orthonormal, x64):
    def of_angles(X, Y):
        return jnp.sum(principal_angles(X, Y, orthonormal=orthonormal))

    def of_factors(B, A):
        return sum(jnp.sum(x) for x in factor(B, A)[:3])

    with jax.enable_x64(x64):
        batch = shaped(6, 30, 4), shaped(6, 30, 3)
        check(jax.vmap(jax.value_and_grad(of_angles, (0, 1))), *batch)
        check(jax.value_and_grad(of_factors, (0, 1)), shaped(6, 30, 4), shaped(6, 4, 20))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stage", [0, 1], ids=["factor", "pairs"])
def test_engine(stage, dtype):
    with jax.enable_x64(True):
        function, arguments = stages(dtype)[stage]
        check(function, *arguments)


def _nuclear(pair):
    return jnp.sum(jnp.linalg.svd(pair.core, compute_uv=False))


def _widest(side):
    return jnp.linalg.eigvalsh(side.gram @ side.gram.T)[-1]


def test_metrics_of_users_take_their_turn():
    own = (
        jt.metric(_nuclear, name="nuclear"),
        METRICS["grassmann"],
        jt.metric(_widest, name="widest", sided=True, symmetric=True),
        METRICS["l2"],
    )
    with jax.enable_x64(True):
        (_, arguments) = stages("float32")[1]
        check(lambda *x: measure_tile(*x, spec=ComparisonSpec(own)), *arguments)


def test_value_is_untouched():
    from jaxtask_kernels._linalg import after

    x = np.array([0.0, -1.5, np.inf], np.float32)
    for done in (np.nan, -0.0, np.inf, -3.7e-12):
        for dtype in (np.float32, np.float64):
            with jax.enable_x64(True):
                np.testing.assert_array_equal(jax.jit(after)(x, np.array([done], dtype)), x)
