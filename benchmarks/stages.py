"""Where the engine's time goes: each stage of `compare` by itself, for one shape.

It calls the engine's inner functions in the engine's order, with a wait after each, so that the sum
may exceed what `compare` takes where stages overlap.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxtask
from benchmarks.checks import wide
from benchmarks.peers import PEERS
from benchmarks.problem import Sample, Shape, all_pairs, make_problem
from jaxtask.engine.plan import default_budget, tiles
from jaxtask.engine.program import Program
from jaxtask.engine.sweep import plans
from jaxtask.engine.tile import measure_tile
from jaxtask.metrics import resolve
from jaxtask_kernels import singular_values
from jaxtask_kernels.factor_rows import factor_rows
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
        known = ("stack", "to_device", "factor_rows", "measure_tile", "to_host")
        spent["rest"] = spent["compare"] - sum(spent[name] for name in known)
        runs.append(spent)
    return {name: 1e6 / shape.cells * min(run[name] for run in runs[1:]) for name in runs[0]}


def _walk(bank: Any, spent: dict[str, float]) -> None:
    program = Program(resolve(["grassmann"]), ("out",))
    for key, plan in plans(bank, program, default_budget()).items():
        if plan.blocks > 1:
            raise SystemExit(f"{plan.tasks} tasks take {plan.blocks} blocks: use fewer tasks")
        with _timed(spent, "stack"):
            stack = bank.stack(key, bank.present(key))
        with _timed(spent, "to_device"):
            B, A = jax.block_until_ready((jax.device_put(stack.B), jax.device_put(stack.A)))
        rtol = 4 * np.sqrt(plan.shape.rank) * stack.eps
        options = {"dtype": np.dtype(program.dtype), "chunk": plan.factor_chunk}
        with _timed(spent, "factor_rows"):
            block = jax.block_until_ready(
                factor_rows(B, A, stack.scale, rtol, need_u=True, need_v=False, **options)
            )
        _, _, pairs = next(tiles(plan.tasks, plan.block))
        padded = np.zeros((plan.chunks * plan.pair_chunk, 2), np.int32)
        padded[: len(pairs)] = pairs
        steps = np.int32(-(-len(pairs) // plan.pair_chunk))
        grid = padded.reshape(plan.chunks, plan.pair_chunk, 2)
        with _timed(spent, "measure_tile"):
            values = jax.block_until_ready(
                measure_tile(block, block, grid, steps, np.bool_(True), program=program)
            )
        with _timed(spent, "to_host"):
            jax.device_get(values)
        with _timed(spent, "measure_tile.gram"):
            gram = jax.block_until_ready(_gram(block.U, block.U))
        with _timed(spent, "measure_tile.gather"):
            picked = jax.block_until_ready(_gather(gram, pairs))
        with _timed(spent, "measure_tile.singular_values"):
            jax.block_until_ready(_singular_values(picked))


_gram = jax.jit(gram_rows)
_singular_values = jax.jit(singular_values)


@jax.jit
def _gather(gram: jax.Array, pairs: jax.Array) -> jax.Array:
    return gram[pairs[:, 0], :, pairs[:, 1], :].astype(jnp.float64)


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
