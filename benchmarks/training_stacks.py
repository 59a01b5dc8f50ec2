"""Many small tasks on one encoder: in one step, against one after another."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from benchmarks.training_runs import Clock, Run, attempt, batch_for, drawn, prepared, train_step
from benchmarks.training_shapes import Shapes
from jaxtask.finetune.models.config import ModelConfig


def compare_stacks(
    config: ModelConfig, sizes: Shapes, ceiling: float, clock: Clock
) -> Iterator[dict[str, Any]]:
    """Throughput at each number of tasks, and the total times of the most of them.

    The latter in float32 too, which is what is recommended for this model.
    """
    run = Run(
        name="roberta-base, bfloat16",
        rank=8,
        targets=("query", "value"),
        rows=sizes.encoder_rows,
        places=sizes.encoder_places,
        dropout=0.05,
        # Kept activations are small here, and those of many tasks fit.
        remat=False,
        steps=sizes.steps,
    )
    model = drawn(config)
    for tasks in sizes.tasks:
        yield attempt(replace(run, tasks=tasks), model, ceiling, clock)
    many = replace(run, tasks=max(sizes.tasks))
    yield _total_times(many, model)
    yield _total_times(replace(many, name="roberta-base, float32"), drawn(config, "float32"))


def _total_times(run: Run, model: Any) -> dict[str, Any]:
    """Seconds of all tasks from the first batch to the last, compilation apart."""
    config = model.config

    def train(run: Run, times: int) -> tuple[float, float]:
        step = train_step(run, model)
        batch, active = batch_for(run, config), np.ones(run.tasks, bool)
        state, numbers = prepared(run, config)
        started = time.perf_counter()
        jax.block_until_ready(step(state, numbers, batch, active))
        first = time.perf_counter() - started
        took = 0.0
        for _ in range(times):
            state, numbers = jax.block_until_ready(prepared(run, config))
            started = time.perf_counter()
            for _ in range(run.steps):
                state, report = step(state, numbers, batch, active)
            jax.block_until_ready((state, report))
            took += time.perf_counter() - started
        return took, first

    together, first_together = train(run, 1)
    apart, first_apart = train(replace(run, tasks=1), run.tasks)
    return {
        **vars(run),
        "seconds_together": together,
        "seconds_one_after_another": apart,
        "ratio": apart / together,
        "first_step_seconds_together": first_together,
        "first_step_seconds_alone": first_apart,
        # One after another compiles once too: the tasks share a program.
        "ratio_with_first_steps": (apart + first_apart) / (together + first_together),
    }
