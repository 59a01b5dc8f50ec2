"""Where the engine's time goes: each stage of `compare` by itself, for one shape.

One module after the other with all threads for each, and a wait after each stage, so that the sum
exceeds what `compare` takes where it has modules go side by side.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import jax

import jaxtask
from benchmarks.checks import wide
from benchmarks.peers import PEERS
from benchmarks.problem import Sample, Shape, all_pairs, make_problem
from jaxtask.engine.backend import Host, Tile
from jaxtask.engine.plan import default_budget, tiles
from jaxtask.engine.prepare import plans
from jaxtask.engine.spec import ComparisonSpec
from jaxtask.metrics import resolve
from jaxtask_kernels import singular_values
from jaxtask_kernels.gram import gram_rows


def stages(shape: Shape, repeats: int = 3) -> dict[str, float]:
    """Least microseconds per cell of each stage; those with a dot are parts of the one before."""
    problem = make_problem(shape)
    sample = Sample(tuple(range(shape.modules)), all_pairs(shape.tasks))
    runs = []
    for _ in range(1 + repeats):  # the first compiles
        spent: dict[str, float] = defaultdict(float)
        bank = PEERS["jaxtask"].setup(problem, sample)
        with _timed(spent, "compare"):
            jaxtask.compare(bank, metrics=["grassmann"], sides=("out",))
        with wide():
            _walk(bank, spent)
        runs.append(spent)
    return {name: 1e6 / shape.cells * min(run[name] for run in runs[1:]) for name in runs[0]}


def _walk(bank: Any, spent: dict[str, float]) -> None:
    spec = ComparisonSpec(resolve(["grassmann"]), ("out",))
    host = Host(bank, spec, None)
    for key, plan in plans(bank, spec, default_budget()).items():
        if plan.blocks > 1:
            raise SystemExit(f"{plan.tasks} tasks take {plan.blocks} blocks: use fewer tasks")
        plan = replace(plan, side_by_side=1)
        with _timed(spent, "factor"):
            block = jax.block_until_ready(host.factor(key, bank.present(key), plan))
        _, _, pairs = next(tiles(plan.tasks, plan.block))
        with _timed(spent, "measure"):
            host.measure(Tile(block, block, pairs, True), plan)
        with _timed(spent, "measure.gram"):
            grams = host.grams(block, block, plan) or (jax.block_until_ready(_gram(block.U)),)
        picked = jax.block_until_ready(_gather(grams[0], pairs))
        with _timed(spent, "measure.singular_values"):
            jax.block_until_ready(_singular_values(picked))


_singular_values = jax.jit(singular_values)


@jax.jit
def _gram(U: jax.Array) -> jax.Array:
    return gram_rows(U, U)


@jax.jit
def _gather(gram: jax.Array, pairs: jax.Array) -> jax.Array:
    return gram[pairs[:, 0], :, pairs[:, 1], :]


@contextmanager
def _timed(spent: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    spent[stage] += time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stages", description=__doc__)
    parser.add_argument("--shape", type=int, nargs=2, metavar=("D", "R"), default=(4096, 16))
    parser.add_argument("--tasks", type=int, default=32)
    parser.add_argument("--modules", type=int, default=24)
    arguments = parser.parse_args()
    found = stages(Shape(*arguments.shape, arguments.tasks, arguments.modules))
    print(json.dumps({name: round(value, 2) for name, value in found.items()}, indent=1))


if __name__ == "__main__":
    main()
