"""LoRA parameters of T tasks: which modules get them, how large, and their values at the start.

Parameters are one tree, ``{module: {"A": [L, T, in, r], "B": [L, T, r, out]}}`` in float32, with r
the largest rank of any task. What lies beyond a task's own rank in a layer is 0 in A and in B, and
so are the gradients there: it stays 0. Heads of encoders are beside the modules, under their own
names, ``{"kernel": [T, in, out], "bias": [T, out]}``.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import DictKey

from jaxtask.adapters.formats.peft_config import first_match
from jaxtask.errors import TrainingError
from jaxtask.finetune.models.config import EncoderConfig, ModelConfig
from jaxtask.finetune.models.encoder import head_shapes
from jaxtask.finetune.recipe.settings import Lora
from jaxtask.finetune.training.parameters import Tree
from jaxtask.patterns import Patterns

ALL_LINEAR = "all-linear"

Parameters = dict[str, dict[str, Array]]


def ranks(
    spec: Lora, config: ModelConfig, patterns: Patterns | None = None
) -> dict[str, np.ndarray]:
    """The rank in every layer, [L], of each module that `spec` targets; 0 where it does not.

    Args:
        spec: What is wanted.
        config: Config of the base model.
        patterns: The time that this and others of one recipe may take together.

    Raises:
        TrainingError: Nothing or not every name matches; it lists the modules there are. Or the
            expressions take too long.

    """
    patterns = patterns or Patterns(TrainingError)
    names = {
        (module, layer): f"{config.layer_name(layer)}.{module}"
        for module in config.linears
        for layer in range(config.layers)
    }
    chosen = _chosen(spec.targets, list(names.values()), config, patterns)
    found: dict[str, np.ndarray] = {}
    for (module, layer), name in names.items():
        if name in chosen:
            row = found.setdefault(module, np.zeros(config.layers, np.int64))
            row[layer] = first_match(
                dict(spec.rank_pattern), name, spec.r, patterns, "rank_pattern"
            )
    return found


def scales(
    specs: Sequence[Lora], config: ModelConfig, patterns: Patterns | None = None
) -> dict[str, Array]:
    """The s of ΔW = s·AB, [L, T] float32 per module: α/r, or α/√r with rsLoRA; 0 without LoRA.

    `patterns`, and what is raised, as for `ranks`.
    """
    patterns = patterns or Patterns(TrainingError)
    table: dict[str, np.ndarray] = {}
    for t, spec in enumerate(specs):
        for module, own in ranks(spec, config, patterns).items():
            row = table.setdefault(module, np.zeros((config.layers, len(specs)), np.float32))
            for layer in np.flatnonzero(own):
                name = f"{config.layer_name(int(layer))}.{module}"
                alpha = first_match(
                    dict(spec.alpha_pattern), name, spec.alpha, patterns, "alpha_pattern"
                )
                row[layer, t] = alpha / (math.sqrt(own[layer]) if spec.rslora else own[layer])
    return {module: jnp.asarray(row) for module, row in table.items()}


def init_lora(specs: Sequence[Lora], config: ModelConfig) -> Parameters:
    """PEFT's start: A uniform in ±1/√in (Kaiming with a = √5), B zero.

    A depends on the task's seed and the module's name only. With one seed, the A of a smaller rank
    is the first part of that of a larger one.
    """
    patterns = Patterns(TrainingError)
    own = [ranks(spec, config, patterns) for spec in specs]
    largest = max(int(row.max()) for task in own for row in task.values())
    parameters: Parameters = {}
    for module, (d_in, d_out) in config.linears.items():
        if not any(module in task for task in own):
            continue
        A = np.zeros((config.layers, len(specs), d_in, largest), np.float32)
        for t, spec in enumerate(specs):
            for layer, rank in enumerate(own[t].get(module, ())):
                name = f"{config.layer_name(layer)}.{module}"
                draw = _generator(spec.seed, name).uniform(-1, 1, (rank, d_in)) / math.sqrt(d_in)
                A[layer, t, :, :rank] = draw.T
        B = jnp.zeros((config.layers, len(specs), largest, d_out), jnp.float32)
        parameters[module] = {"A": jnp.asarray(A), "B": B}
    return parameters


def init_head(
    specs: Sequence[Lora],
    config: EncoderConfig,
    classes: Sequence[int],
    starts: Sequence[Tree | None] | None = None,
) -> Parameters:
    """Every task's head: weights from N(0, 0.02²) by its seed, biases 0; or a copy of its start.

    `classes` are the numbers of scores (1 for regression). Those of smaller heads are padded with
    columns that no loss reads. `starts` are heads without task axis, whose numbers of scores must
    fit; None for a new one.
    """
    head: Parameters = {}
    for name, (d_in, d_out) in head_shapes(config, max(classes)).items():
        kernel = np.zeros((len(specs), d_in, d_out), np.float32)
        bias = np.zeros((len(specs), d_out), np.float32)
        last = name == list(head_shapes(config, 1))[-1]
        for t, spec in enumerate(specs):
            out = classes[t] if last else d_out
            start = None if starts is None else starts[t]
            if start is None:
                draw = _generator(spec.seed, name).standard_normal((out, d_in))
                kernel[t, :, :out] = 0.02 * draw.T
                continue
            given = start[name]["kernel"].shape
            if given != (d_in, out):
                raise TrainingError(
                    f"the head's '{name}' has shape {given} (in, out), expected {(d_in, out)}"
                )
            kernel[t, :, :out], bias[t, :out] = start[name]["kernel"], start[name]["bias"]
        head[name] = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
    return head


def task_seeds(seed: int, tasks: Sequence[str], shared: bool) -> list[int]:
    """A seed for each task: `seed` itself for all, or one that depends on the task's name too."""
    return [seed if shared else seed ^ zlib.crc32(task.encode()) for task in tasks]


def task_axis(path: tuple[Any, ...]) -> int:
    """Which axis of the leaf at `path` is the task's: 1 for A and B, after the layers, else 0."""
    return 1 if path and isinstance(path[-1], DictKey) and path[-1].key in ("A", "B") else 0


def task_axes(tree: Any) -> Any:
    """`task_axis` of every leaf, in the structure of `tree`."""
    return jax.tree_util.tree_map_with_path(lambda path, _: task_axis(path), tree)


def _chosen(
    targets: str | Sequence[str], names: list[str], config: ModelConfig, patterns: Patterns
) -> set[str]:
    if targets == ALL_LINEAR:
        return set(names)
    there = (
        f"layer 0 of this {config.architecture} model is '{config.layer_name(0)}', and each layer "
        f"has {', '.join(config.linears)}"
    )
    return patterns.chosen(targets, names, "LoRA target", there)


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode())])
