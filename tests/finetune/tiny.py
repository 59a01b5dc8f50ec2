"""Tiny models with weights that matter everywhere, and batches for them."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxtask.finetune.data.batch_type import Batch
from jaxtask.finetune.models.architectures import ARCHITECTURES, DECODERS
from jaxtask.finetune.models.config import parse_config
from jaxtask.finetune.models.load import abstract_model
from jaxtask.finetune.training.lora import init_head, init_lora, scales, task_axis
from jaxtask.finetune.training.schedule import KINDS, Schedule
from jaxtask.finetune.training.step import task_numbers

LLAMA = {
    "model_type": "llama",
    "hidden_act": "silu",
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 64,
    "rope_theta": 10000.0,
    "eos_token_id": 2,
}
MISTRAL = {**LLAMA, "model_type": "mistral", "sliding_window": 5}
BERT = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "classifier_dropout": 0.1,
}
ROBERTA = {
    **BERT,
    "model_type": "roberta",
    "type_vocab_size": 1,
    "pad_token_id": 1,
    "max_position_embeddings": 42,
    "layer_norm_eps": 1e-5,
}


def fields_of(kind):
    """Tiny fields of any architecture."""
    if own := {f["model_type"]: f for f in (LLAMA, MISTRAL, BERT, ROBERTA)}.get(kind):
        return own
    other = LLAMA if kind in DECODERS else BERT
    return {**other, "model_type": kind, "hidden_act": ARCHITECTURES[kind].activation}


def config(fields, **changes):
    return parse_config({**fields, **changes}, "test")


def model(fields, **changes):
    """Weights large enough that attention, norms and biases all show in the output."""
    return _model(tuple({**fields, **changes}.items()))


@cache
def _model(fields, seed=0):
    definition, state = nnx.split(abstract_model(config(dict(fields)), "float32"))
    rng = np.random.default_rng(seed)

    def values(path, variable):
        draw = 0.15 * rng.standard_normal(variable.get_value().shape).astype("f")
        return path, variable.replace(jnp.asarray(draw + (path[-1] == "scale")))

    flat = [values(*item) for item in nnx.to_flat_state(state)]
    return nnx.merge(definition, nnx.from_flat_state(flat))


def filled(parameters, seed=0):
    """LoRA parameters as if trained: B starts at zero. What is beyond a rank stays 0.

    Small, so that the models stay well-conditioned: rounding must not grow through their layers.
    """
    rng = np.random.default_rng(seed)
    new = {}
    for name, own in parameters.items():
        if "A" not in own:
            new[name] = own
            continue
        live = np.asarray(own["A"]).any(axis=2)[..., None]  # [L, T, r, 1]
        B = 0.05 * rng.standard_normal(own["B"].shape) * live
        new[name] = {"A": own["A"], "B": jnp.asarray(B, jnp.float32)}
    return new


def lora(specs, config, classes=None):
    parameters = filled(init_lora(specs, config))
    if classes is not None:
        parameters |= init_head(specs, config, classes)
    return parameters


def numbers(specs, config, *, kind="constant", peak=1e-2, warmup=0, total=100, **others):
    T = len(specs)
    each = lambda value, dtype: jnp.broadcast_to(jnp.asarray(value, dtype), (T,))  # noqa: E731
    schedule = Schedule(
        each(KINDS.index(kind), jnp.int32),
        each(peak, jnp.float32),
        each(warmup, jnp.int32),
        each(total, jnp.int32),
    )
    return task_numbers(scales(specs, config), schedule, **others)


def rows(examples, width):
    """One example a row: tokens, positions, segments [B, width] of token lists."""
    tokens, positions, segments = (np.zeros((len(examples), width), np.int32) for _ in range(3))
    for b, example in enumerate(examples):
        n = len(example)
        tokens[b, :n], positions[b, :n], segments[b, :n] = example, np.arange(n), 1
    return tokens, positions, segments


def packed(examples, width):
    """All examples in one row [1, width]."""
    tokens, positions, segments = (np.zeros((1, width), np.int32) for _ in range(3))
    at = 0
    for number, example in enumerate(examples, 1):
        place = slice(at, at + len(example))
        tokens[0, place], segments[0, place] = example, number
        positions[0, place] = np.arange(len(example))
        at = place.stop
    return tokens, positions, segments


def examples(rng, lengths, vocabulary=61):
    return [rng.integers(3, vocabulary, n).tolist() for n in lengths]


def weights_of(positions, segments, prompt=2):
    """Loss on what comes after the first `prompt` tokens of an example."""
    return ((segments > 0) & (positions >= prompt)).astype(np.float32)


def text_batch(rng, lengths, width):
    """A batch [T, B, width] of examples of `lengths` [T][B]; 0 is an empty row."""
    arrays = [rows(examples(rng, own), width) for own in lengths]
    tokens, positions, segments = (np.stack(a) for a in zip(*arrays, strict=True))
    return as_batch(tokens, positions, segments, weights_of(positions, segments))


def label_batch(rng, lengths, width, classes):
    """A classification batch; the labels of task t are below ``classes[t]``."""
    batch = text_batch(rng, lengths, width)
    weights = jnp.zeros_like(batch.weights).at[:, :, 0].set(batch.segments[:, :, 0] > 0)
    labels = [rng.integers(0, own, batch.tokens.shape[1]) for own in classes]
    return batch._replace(weights=weights, labels=jnp.asarray(np.stack(labels), jnp.int32))


def as_batch(tokens, positions, segments, weights, labels=None):
    return Batch(*(jnp.asarray(a) for a in (tokens, positions, segments, weights)), labels)


def task_of(batch, t):
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[t : t + 1]), batch)


def only_task(tree, task):
    """Task number `task` alone, its axis kept with length 1, as NumPy's: nothing is compiled."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: np.take(np.asarray(x), [task], axis=task_axis(path)), tree
    )


def largest_difference(first, second):
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return max(np.abs(np.asarray(a) - np.asarray(b)).max(initial=0) for a, b in pairs)


def copied(tree):
    """Arrays of its own: a training step eats the state it is given."""
    return jax.tree.map(lambda x: jnp.array(x, copy=True), tree)
