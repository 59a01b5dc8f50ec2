"""One training step of T tasks on one frozen base, compiled once for all of them.

The base is an argument that is never differentiated: gradients and optimiser memory exist for the
tasks' own parameters only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from jaxtask.errors import TrainingError
from jaxtask.finetune.data.batch_type import Batch
from jaxtask.finetune.models.attention import Implementation
from jaxtask.finetune.models.decoder import Decoder
from jaxtask.finetune.models.encoder import Encoder
from jaxtask.finetune.models.layers import Adapters, Dropout
from jaxtask.finetune.models.load import Model
from jaxtask.finetune.training.lora import Parameters, task_axes
from jaxtask.finetune.training.loss import (
    classification_loss,
    completion_loss,
    own_scores,
    regression_loss,
)
from jaxtask.finetune.training.mesh import spread_batch, spread_tasks
from jaxtask.finetune.training.schedule import Schedule, learning_rate

Kind = Literal["text", "classification", "regression"]


class TaskNumbers(NamedTuple):
    """What may differ from task to task. All of it is data: other numbers recompile nothing.

    Attributes:
        scale: Module → [L, T] float32, see `lora.scales`.
        schedule: Learning-rate schedules, [T].
        clip: [T] float32, largest norm of a task's gradient; infinity for none.
        decay: [T] float32, weight decay.
        dropout: [T] float32, of LoRA's input.
        seed: [T] uint32, of dropout.
        classes: [T] int32, numbers of classes; ignored without classification.

    """

    scale: dict[str, Array]
    schedule: Schedule
    clip: Array
    decay: Array
    dropout: Array
    seed: Array
    classes: Array


class TrainState(NamedTuple):
    """What training changes.

    Attributes:
        adam: Count [T]: every task's own number of steps.

    """

    parameters: Parameters
    adam: optax.ScaleByAdamState


class Report(NamedTuple):
    """What one step says of each task, [T] float32.

    Attributes:
        loss: Mean over the batch, before the step; 0 for an empty batch.
        weight: Tokens, or rows, that the loss is a mean of.
        norm: Global norm of the gradient, before clipping.
        rate: Learning rate.

    """

    loss: Array
    weight: Array
    norm: Array
    rate: Array


class Sums(NamedTuple):
    """A loss to be divided by its weight, [T] float32 each."""

    loss: Array
    weight: Array


@dataclass(frozen=True)
class StepOptions:
    """What a step is compiled for.

    Attributes:
        accumulate: Parts that a batch's rows are cut into, one after another.
        dropout: Whether any is applied: LoRA's, and that of encoders' heads.
        base_dropout: Whether, if so, encoders' frozen layers have theirs too.
        remat: Features are computed again for the backward pass, not kept.

    """

    kind: Kind = "text"
    accumulate: int = 1
    dropout: bool = False
    base_dropout: bool = False
    remat: bool = True
    attention: Implementation = "xla"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


def init_state(parameters: Parameters, mesh: Mesh | None = None) -> TrainState:
    """Training at its start: moments 0, no steps taken. With a `mesh`, tasks are spread over it."""
    T = next(
        x.shape[axis]
        for x, axis in zip(
            jax.tree.leaves(parameters), jax.tree.leaves(task_axes(parameters)), strict=True
        )
    )
    zeros = partial(jax.tree.map, jnp.zeros_like)
    adam = optax.ScaleByAdamState(jnp.zeros(T, jnp.int32), zeros(parameters), zeros(parameters))
    state = TrainState(parameters, adam)
    return state if mesh is None else jax.device_put(state, spread_tasks(state, mesh))


def make_train_step(model: Model, options: StepOptions, mesh: Mesh | None = None) -> Any:
    """``step(state, numbers, batch, active) -> (state, report)``, compiled once per shape.

    Make it once for a model and use it for all stacks of tasks: another one is compiled again.

    AdamW with every task's own rate, decay, clip and step count. The state given in is donated and
    must not be used again. A task that is not `active` [T] bool, or whose batch has no weight,
    keeps its parameters and its optimiser's state bit for bit. With a `mesh`, tasks and rows are
    spread over it. The result is a `functools.partial` of a jitted function over the base.
    """
    check_kind(model, options)
    definition, base = nnx.split(model)
    adam = optax.scale_by_adam(*options.betas, eps=options.eps)

    def step(
        base: Any, state: TrainState, numbers: TaskNumbers, batch: Batch, active: Array
    ) -> tuple[TrainState, Report]:
        if mesh is not None:
            state = _constrain(state, spread_tasks(state, mesh))
            batch = _constrain(batch, spread_batch(batch, mesh))
        step_number = state.adam.count
        sums, gradient = _gradient(
            state.parameters, definition, base, numbers, step_number, batch, options
        )
        rate = learning_rate(numbers.schedule, step_number)
        active = active & (sums.weight > 0)
        axes = task_axes(state)
        update = jax.vmap(
            partial(_update, adam),
            in_axes=(axes, axes.parameters, 0, 0, 0, 0, 0),
            out_axes=(axes, 0),
        )
        weight = jnp.maximum(sums.weight, jnp.finfo(jnp.float32).tiny)
        state, norm = update(state, gradient, weight, rate, numbers.clip, numbers.decay, active)
        if mesh is not None:
            state = _constrain(state, spread_tasks(state, mesh))
        return state, Report(sums.loss / weight, sums.weight, norm, rate)

    return partial(jax.jit(step, donate_argnums=1), base)


def make_eval_step(model: Model, options: StepOptions) -> Any:
    """``step(parameters, numbers, batch) -> Sums``: the loss without dropout."""
    check_kind(model, options)
    definition, base = nnx.split(model)

    def step(base: Any, parameters: Parameters, numbers: TaskNumbers, batch: Batch) -> Sums:
        return _sums(parameters, definition, base, numbers, batch, None, options)

    return partial(jax.jit(step), base)


def make_predict(model: Encoder) -> Any:
    """``predict(parameters, numbers, batch) -> [T, B, C]``: the scores of every row.

    Those of classes that a task does not have are the least number there is.
    """
    definition, base = nnx.split(model)

    def predict(base: Any, parameters: Parameters, numbers: TaskNumbers, batch: Batch) -> Array:
        model = nnx.merge(definition, base)
        return own_scores(_scores(model, parameters, numbers, batch), numbers.classes)

    return partial(jax.jit(predict), base)


def task_numbers(
    scale: dict[str, Array],
    schedule: Schedule,
    *,
    clip: Any = jnp.inf,
    decay: Any = 0.0,
    dropout: Any = 0.0,
    seed: Any = 0,
    classes: Any = 1,
) -> TaskNumbers:
    """`TaskNumbers` of T tasks from numbers (for all tasks) or sequences of T."""
    T = schedule.peak.shape[0]

    def each(value: Any, dtype: Any) -> Array:
        return jnp.broadcast_to(jnp.asarray(value, dtype), (T,))

    return TaskNumbers(
        scale=scale,
        schedule=schedule,
        clip=each(clip, jnp.float32),
        decay=each(decay, jnp.float32),
        dropout=each(dropout, jnp.float32),
        seed=each(seed, jnp.uint32),
        classes=each(classes, jnp.int32),
    )


def check_kind(model: Model, options: StepOptions) -> None:
    """Check that the model has the loss that is asked for.

    Raises:
        TrainingError: The model has no such loss.

    """
    if isinstance(model, Decoder) != (options.kind == "text"):
        able = "text" if isinstance(model, Decoder) else "classification or regression"
        raise TrainingError(
            f"a {model.config.architecture} model is trained on {able}, not on {options.kind}"
        )


def _update(
    adam: Any,
    state: TrainState,
    gradient: Parameters,
    weight: Array,
    rate: Array,
    clip: Array,
    decay: Array,
    active: Array,
) -> tuple[TrainState, Array]:
    """AdamW for one task, on the gradient of its summed loss."""
    gradient = jax.tree.map(lambda g: g / weight, gradient)
    norm = optax.tree.norm(gradient)
    gradient = jax.tree.map(lambda g: g * jnp.minimum(1, clip / norm), gradient)
    direction, moments = adam.update(gradient, state.adam)
    parameters = jax.tree.map(lambda p, d: p - rate * (d + decay * p), state.parameters, direction)
    new = TrainState(parameters, moments)
    return jax.tree.map(partial(jnp.where, active), new, state), norm


def _gradient(
    parameters: Parameters,
    definition: Any,
    base: Any,
    numbers: TaskNumbers,
    step_number: Array,
    batch: Batch,
    options: StepOptions,
) -> tuple[Sums, Parameters]:
    """The summed loss of each task and its gradient, part of the batch by part."""
    T, B = batch.tokens.shape[:2]
    M = options.accumulate
    if B % M:
        raise TrainingError(f"a batch of {B} rows cannot be cut into {M} equal parts")

    def total(parameters: Parameters, part: Batch, first_row: Array) -> tuple[Array, Sums]:
        dropout = None
        if options.dropout:
            dropout = _dropout(numbers, step_number, first_row + jnp.arange(B // M))
        sums = _sums(parameters, definition, base, numbers, part, dropout, options)
        # Tasks share no parameter, so the gradient of the total is every task's own.
        return sums.loss.sum(), sums

    differentiate = jax.grad(total, has_aux=True)
    if M == 1:
        gradient, sums = differentiate(parameters, batch, jnp.int32(0))
        return sums, gradient

    def add(before: Any, part: tuple[Batch, Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, before, differentiate(parameters, *part)), None

    parts = jax.tree.map(lambda x: x.reshape(T, M, B // M, *x.shape[2:]).swapaxes(0, 1), batch)
    nothing = (jax.tree.map(jnp.zeros_like, parameters), Sums(jnp.zeros(T), jnp.zeros(T)))
    (gradient, sums), _ = jax.lax.scan(add, nothing, (parts, jnp.arange(M) * (B // M)))
    return sums, gradient


def _sums(
    parameters: Parameters,
    definition: Any,
    base: Any,
    numbers: TaskNumbers,
    batch: Batch,
    dropout: Dropout | None,
    options: StepOptions,
) -> Sums:
    model = nnx.merge(definition, base)
    if options.kind == "text":
        features = model(
            batch.tokens,
            batch.positions,
            batch.segments,
            adapters_of(parameters, numbers, dropout),
            remat=options.remat,
            implementation=options.attention,
        )
        return Sums(*completion_loss(features, model.output, batch.tokens, batch.weights))
    if batch.labels is None:
        raise TrainingError(f"a batch for {options.kind} has no labels")
    scores = _scores(
        model, parameters, numbers, batch, dropout, options.remat, options.base_dropout
    )
    weights = batch.weights[:, :, 0]
    if options.kind == "regression":
        return Sums(*regression_loss(scores, batch.labels, weights))
    return Sums(*classification_loss(scores, batch.labels, weights, numbers.classes))


def _scores(
    model: Encoder,
    parameters: Parameters,
    numbers: TaskNumbers,
    batch: Batch,
    dropout: Dropout | None = None,
    remat: bool = False,
    base_dropout: bool = False,
) -> Array:
    adapters = adapters_of(parameters, numbers, dropout)
    features = model(
        batch.tokens,
        batch.positions,
        batch.segments,
        adapters,
        types=batch.types,
        dropout=dropout if base_dropout else None,
        remat=remat,
    )
    return model.scores(features, parameters, dropout)


def adapters_of(
    parameters: Parameters, numbers: TaskNumbers, dropout: Dropout | None = None
) -> Adapters:
    """The adapters among `parameters`, as models take them."""
    factors = {module: parameters[module] for module in numbers.scale}
    return Adapters(factors, numbers.scale, dropout)


def _dropout(numbers: TaskNumbers, step_number: Array, rows: Array) -> Dropout:
    """That of LoRA, by each task's seed and its own number of steps."""
    fold = jax.vmap(lambda s, n: jax.random.fold_in(jax.random.key(s, impl="threefry2x32"), n))
    keys = jax.random.key_data(fold(numbers.seed, step_number))
    return Dropout(keys, rows, numbers.dropout)


def _constrain(tree: Any, shardings: Any) -> Any:
    return jax.tree.map(jax.lax.with_sharding_constraint, tree, shardings)
