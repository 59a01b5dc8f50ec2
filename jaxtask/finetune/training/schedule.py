"""Learning rates of T tasks, each at its own step of its own schedule.

The schedules are optax's `warmup_constant_schedule`, linear decay to 0 and
`warmup_cosine_decay_schedule`, written over arrays so that tasks with other numbers, or another
kind, run the same compiled program.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

KINDS = ("constant", "linear", "cosine")


class Schedule(NamedTuple):
    """One per task, [T] each.

    Attributes:
        kind: int32, an index into `KINDS`.
        peak: float32.
        warmup: int32 steps from 0 to the peak.
        total: int32 steps after which linear and cosine schedules are at 0.

    """

    kind: Array
    peak: Array
    warmup: Array
    total: Array


def learning_rate(schedule: Schedule, step: Array) -> Array:
    """The rate [T] float32 of step number `step` [T], counted from 0."""
    step = step.astype(jnp.float32)
    warmup, total = (n.astype(jnp.float32) for n in (schedule.warmup, schedule.total))
    rising = step / jnp.maximum(warmup, 1)
    done = jnp.clip((step - warmup) / jnp.maximum(total - warmup, 1), 0, 1)
    falling = jnp.stack([jnp.ones_like(done), 1 - done, (1 + jnp.cos(jnp.pi * done)) / 2])
    after = jnp.take_along_axis(falling, schedule.kind[None], axis=0)[0]
    return schedule.peak * jnp.where(step < warmup, rising, after)
