"""A toy to train: T linear LoRA models in plain JAX, with momentum, noise, and a donated state.

As a program, it trains three tasks and writes down every batch that it sees:

    python -m finetune.toy WORK OUT PAUSE
"""

import hashlib
import sys
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from finetune.test_batches import encoded, random_lengths
from jaxtask.finetune.data.batches import BatchShape, TaskBatches
from jaxtask.finetune.training.bookkeeping import TaskRun
from jaxtask.finetune.training.loop import Functions, LoopOptions, train
from jaxtask.finetune.training.parameters import take_task

LAYERS, WIDTH, RANK, RATE = 2, 6, 3, 0.01


class State(NamedTuple):
    parameters: dict
    momentum: dict
    key: jax.Array
    count: jax.Array


class Report(NamedTuple):
    loss: jax.Array
    weight: jax.Array


def axes(tree):
    return jax.tree.map(lambda _: 1, tree)


def init(seeds):
    """T adapters, each from its own seed."""
    keys = [jax.random.key(seed) for seed in seeds]
    A = jnp.stack([jax.random.uniform(k, (LAYERS, WIDTH, RANK)) for k in keys], axis=1)
    parameters = {"q": {"A": A, "B": jnp.zeros((LAYERS, len(seeds), RANK, 1))}}
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    return State(parameters, zeros, jnp.stack(keys), jnp.zeros(len(seeds), jnp.int32))


def losses(parameters, batch, noise):
    """Summed squares of predicting a token's sine from its cosines, and their weight; one task."""
    places = batch.tokens[..., None] * jnp.arange(WIDTH) / 1500
    x = jnp.cos(places) + noise
    guess = sum(x @ a @ b for a, b in zip(parameters["q"]["A"], parameters["q"]["B"], strict=True))
    square = (guess[..., 0] - jnp.sin(batch.tokens / 600)) ** 2
    return (square * batch.weights).sum(), batch.weights.sum()


@partial(jax.jit, donate_argnums=0)
def train_step(state, batch, active):
    def one(parameters, momentum, key, count, batch, active):
        noise = 0.1 * jax.random.uniform(jax.random.fold_in(key, count), (WIDTH,))
        (loss, weight), gradient = jax.value_and_grad(losses, has_aux=True)(
            parameters, batch, noise
        )
        momentum_new = jax.tree.map(lambda m, g: 0.9 * m + g / weight, momentum, gradient)
        new = jax.tree.map(lambda p, m: p - RATE * m, parameters, momentum_new)
        keep = partial(jax.tree.map, partial(jnp.where, active))
        state = keep((new, momentum_new, count + 1), (parameters, momentum, count))
        return (*state, loss / weight, weight)

    spread = axes(state.parameters)
    parameters, momentum, count, loss, weight = jax.vmap(
        one, in_axes=(spread, spread, 0, 0, 0, 0), out_axes=(spread, spread, 0, 0, 0)
    )(*state, batch, active)
    return State(parameters, momentum, state.key, count), Report(loss, weight)


@jax.jit
def eval_step(state, batch):
    spread = axes(state.parameters)
    return jax.vmap(losses, in_axes=(spread, 0, None))(state.parameters, batch, 0.0)


def functions(seeds, seen=None, pause=0.0):
    """`Functions` of T tasks; `seen` is told the number and a digest of every batch."""
    steps = 0

    def step(state, batch, active):
        nonlocal steps
        steps = int(state.count.max()) + 1
        if seen is not None:
            digest = hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in batch[:4]))
            seen(steps, digest.hexdigest())
        time.sleep(pause)
        return train_step(state, batch, active)

    return Functions(partial(init, seeds), step, eval_step, lambda s, t: take_task(s.parameters, t))


SHAPE = BatchShape(rows=2, max_len=32, packing=True, parts=2)
TASKS = {
    # name: (seed of the adapter, number of examples, steps, patience)
    "ner": (1, 30, 60, 2),
    "sum": (2, 9, 25, None),
    "coref": (3, 17, 60, None),
}


def run_of(name, shape=SHAPE):
    seed, count, total, patience = TASKS[name]
    data = encoded(name, random_lengths(count, 30, seed), dev=random_lengths(6, 30, seed + 10))
    return TaskRun(TaskBatches(data, shape, seed=7), total, patience)


def train_toys(names, work, seen=None, pause=0.0, **options):
    options = LoopOptions(**{"checkpoint_every": 7, "log_every": 5, "eval_every": 10, **options})
    seeds = [TASKS[name][0] for name in names]
    runs = [run_of(name) for name in names]
    return train(functions(seeds, seen, pause), runs, options, work, {"rate": RATE})


def main(work, out, pause):
    with (out / "batches").open("a") as file:

        def seen(step, digest):
            file.write(f"{step} {digest}\n")
            file.flush()

        found = train_toys(list(TASKS), work, seen, pause)
    for outcome in found:
        np.savez(out / outcome.name, **outcome.parameters["q"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
