"""Training runs on models with random weights, and what they take."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.flops import nominal_peak, step_flops
from jaxtask.finetune.data.batch_type import Batch
from jaxtask.finetune.models.attention import Implementation
from jaxtask.finetune.models.config import EncoderConfig, ModelConfig
from jaxtask.finetune.models.load import Dtype, Model, abstract_model
from jaxtask.finetune.recipe.settings import Lora
from jaxtask.finetune.training.lora import init_head, init_lora, scales
from jaxtask.finetune.training.memory import step_bytes
from jaxtask.finetune.training.schedule import Schedule
from jaxtask.finetune.training.step import StepOptions, init_state, make_train_step, task_numbers

_WARM = 2
"""Steps before the clock starts."""


@dataclass(frozen=True)
class Run:
    """What is trained, on what."""

    name: str
    rank: int
    targets: tuple[str, ...]
    rows: int
    places: int
    documents: int = 1
    """Packed in a row, all of one length."""
    answer: float = 1.0
    """The share of a document, at its end, that has loss."""
    dropout: float = 0.0
    tasks: int = 1
    remat: bool = True
    attention: Implementation = "xla"
    steps: int = 50


@dataclass
class Clock:
    """The seconds that a section has."""

    seconds: float

    def __post_init__(self) -> None:
        self._start = time.monotonic()

    @property
    def left(self) -> float:
        return self.seconds - (time.monotonic() - self._start)


def drawn(config: ModelConfig, dtype: Dtype = "bfloat16", seed: int = 0, scale: float = 0.02):
    """A model with random weights, made on the device, a layer at a time: nothing larger than a
    layer's is ever there beside the weights, so it does not count in the peak of a run.
    """
    definition, state = nnx.split(abstract_model(config, dtype))
    flat = nnx.to_flat_state(state)
    # The fastest generator there is: these numbers need not be the same on all devices.
    keys = jax.random.split(jax.random.key(seed, impl="rbg"), len(flat))

    @partial(jax.jit, static_argnames=("shape", "dtype", "centre"))
    def draw(key: Any, shape: tuple[int, ...], dtype: Any, centre: float) -> jax.Array:
        def row(key: Any) -> jax.Array:
            return (centre + scale * jax.random.normal(key, shape[1:])).astype(dtype)

        return jax.lax.map(row, jax.random.split(key, shape[0]))

    filled = []
    for key, (path, variable) in zip(keys, flat, strict=True):
        shape = variable.get_value()
        value = draw(key, shape.shape, shape.dtype, float(path[-1] == "scale"))
        filled.append((path, variable.replace(jax.block_until_ready(value))))
    return nnx.merge(definition, nnx.from_flat_state(filled))


def batch_for(run: Run, config: ModelConfig, classes: int = 2) -> Batch:
    """Rows full of random tokens."""
    rng = np.random.default_rng(1)
    size = (run.tasks, run.rows, run.places)
    length = run.places // run.documents
    place = np.arange(run.places)
    segments = np.minimum(place // length + 1, run.documents)
    positions = place - (segments - 1) * length
    text = not isinstance(config, EncoderConfig)
    loss = positions >= max(1, round((1 - run.answer) * length)) if text else place == 0
    arrays = [
        np.broadcast_to(x, size).astype(kind)
        for x, kind in ((positions, np.int32), (segments, np.int32), (loss, np.float32))
    ]
    labels = None if text else rng.integers(0, classes, size[:2]).astype(np.int32)
    return Batch(rng.integers(4, config.vocabulary, size).astype(np.int32), *arrays, labels)


def prepared(run: Run, config: ModelConfig, classes: int = 2) -> tuple[Any, Any]:
    """The state at the start, and the tasks' numbers."""
    targets = run.targets[0] if run.targets == ("all-linear",) else run.targets
    specs = [Lora(r=run.rank, alpha=2 * run.rank, targets=targets)] * run.tasks
    parameters = init_lora(specs, config)
    if isinstance(config, EncoderConfig):
        parameters |= init_head(specs, config, [classes] * run.tasks)
    each = partial(jnp.full, run.tasks)
    schedule = Schedule(each(0), each(1e-4), each(0), each(run.steps))
    numbers = task_numbers(scales(specs, config), schedule, dropout=run.dropout, classes=classes)
    return init_state(parameters), numbers


def train_step(run: Run, model: Model) -> Any:
    kind = "classification" if isinstance(model.config, EncoderConfig) else "text"
    options = StepOptions(
        kind=kind, dropout=run.dropout > 0, remat=run.remat, attention=run.attention
    )
    return make_train_step(model, options)


def measure_run(run: Run, model: Model, ceiling: float, clock: Clock) -> dict[str, Any]:
    """Compile time, tokens a second, utilisation, memory and losses of a run.

    It ends early, after a whole step, when the clock has run out.
    """
    config, step = model.config, train_step(run, model)
    state, numbers = prepared(run, config)
    batch, active = batch_for(run, config), np.ones(run.tasks, bool)
    peak_before = peak_bytes()
    started = time.perf_counter()
    compiled = step.func.lower(*step.args, state, numbers, batch, active).compile()
    compile_seconds = time.perf_counter() - started
    # On the device before the clock starts; in training that happens during the step before.
    batch = jax.device_put(batch)
    losses: list[Any] = []
    took = 0.0
    for n in range(_WARM + run.steps):
        if n == _WARM:
            jax.block_until_ready(losses)
            started = time.perf_counter()
        state, report = step(state, numbers, batch, active)
        losses.append(report.loss)
        # One step behind, so that the device never waits, and the clock is looked at.
        jax.block_until_ready(losses[-2:-1])
        if n > _WARM and clock.left < 0:
            break
    jax.block_until_ready((state, losses))
    took = time.perf_counter() - started
    steps = len(losses) - _WARM
    per_second = steps / took
    segments = batch.segments.reshape(-1, run.places)
    supervised = int(np.count_nonzero(batch.weights))
    flops = step_flops(config, run.rank, run.targets, np.asarray(segments), supervised, run.remat)
    tokens, peak, nominal = int(np.count_nonzero(segments)), peak_bytes(), nominal_peak(_kind())
    first, last = (np.asarray(losses[n], np.float64) for n in (0, -1))
    return {
        **vars(run),
        "steps_timed": steps,
        "compile_seconds": compile_seconds,
        "seconds_per_step": took / steps,
        "tokens_per_step": tokens,
        "tokens_per_second": tokens * per_second,
        "rows_per_second": run.tasks * run.rows * per_second,
        "model_flops_per_step": flops.model,
        "hardware_flops_per_step": flops.hardware,
        "model_teraflops": 1e-12 * flops.model * per_second,
        "hardware_teraflops": 1e-12 * flops.hardware * per_second,
        "mfu_of_measured": flops.model * per_second / ceiling,
        "hfu_of_measured": flops.hardware * per_second / ceiling,
        "mfu_of_nominal": nominal and flops.model * per_second / nominal,
        "hfu_of_nominal": nominal and flops.hardware * per_second / nominal,
        "base_bytes": sum(x.nbytes for x in jax.tree.leaves(step.args)),
        "step_bytes_beside_base": step_bytes(compiled, step.args),
        "peak_bytes_so_far": peak,
        # The allocator keeps one peak for the whole process: it is this run's if it has grown.
        "peak_is_of_this_run": None if peak is None else peak > (peak_before or 0),
        "loss_first": first.tolist(),
        "loss_last": last.tolist(),
        "losses_finite": bool(np.isfinite(losses).all()),
    }


def attempt(run: Run, model: Model, ceiling: float, clock: Clock) -> dict[str, Any]:
    """`measure_run`, or what it was that the device would not do."""
    try:
        return measure_run(run, model, ceiling, clock)
    except Exception as error:  # noqa: BLE001  # Of any kind: what others find must not be lost.
        return {**vars(run), "failed": first_line(error)}


def first_line(error: Exception) -> str:
    """Its kind, and the start of what it says."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"


def matmul_ceiling(sizes: Sequence[tuple[int, int, int]], repeats: int) -> dict[str, Any]:
    """The highest rate of bfloat16 products of random numbers, in operations a second."""
    rates = {}
    for m, k, n in sizes:
        a = jax.random.normal(jax.random.key(0), (m, k), jnp.bfloat16)
        b = jax.random.normal(jax.random.key(1), (k, n), jnp.bfloat16)
        product = jax.jit(jnp.matmul)
        jax.block_until_ready(product(a, b))
        started = time.perf_counter()
        jax.block_until_ready([product(a, b) for _ in range(repeats)])
        rates[f"{m}×{k}×{n}"] = 2.0 * m * k * n * repeats / (time.perf_counter() - started)
    return {
        "flops_per_second": max(rates.values()),
        "teraflops": {shape: 1e-12 * rate for shape, rate in rates.items()},
        "nominal_teraflops": (peak := nominal_peak(_kind())) and 1e-12 * peak,
    }


def peak_bytes() -> int | None:
    """The most that the process has had of the device's memory, where the device says."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def _kind() -> str:
    return jax.devices()[0].device_kind
