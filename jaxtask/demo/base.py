"""A tiny base model of our own: a tokenizer and a Llama, made from nothing but a corpus' text."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from jax import Array

from jaxtask.corpora import Document
from jaxtask.corpora.detokenise import detokenise
from jaxtask.finetune.data.batch_type import Batch
from jaxtask.finetune.models.config import parse_config
from jaxtask.finetune.models.load import Model, random_model
from jaxtask.finetune.training.loss import completion_loss

_START, _END = "<s>", "</s>"
_ROWS, _WIDTH = 16, 128
_PEAK_RATE = 8e-3
# The usual 0.02 suits models that are some fifty times as wide: this one would learn slowly.
_SPREAD = 0.08
_PARAGRAPH = 4  # sentences
_TELL = 105  # steps

_LLAMA = {
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 512,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}


def text_of(document: Document) -> str:
    """The document as plain text, in paragraphs."""
    sentences = [detokenise(sentence.words) for sentence in document.sentences]
    starts = range(0, len(sentences), _PARAGRAPH)
    return "\n".join(" ".join(sentences[n : n + _PARAGRAPH]) for n in starts)


def make_tokenizer(texts: Sequence[str], size: int = 1024) -> Any:
    """A byte-level BPE tokenizer of transformers, of at most `size` tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[_START, _END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    made.post_processor = processors.TemplateProcessing(
        single=f"{_START} $A", special_tokens=[(_START, made.token_to_id(_START))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=_START, eos_token=_END, pad_token=_END
    )


def token_stream(tokenizer: Any, texts: Sequence[str]) -> np.ndarray:
    """All texts one after another, [n] int32, each with the tokens of its start and end."""
    ids = tokenizer(list(texts))["input_ids"]
    return np.concatenate([[*text, tokenizer.eos_token_id] for text in ids]).astype(np.int32)


def pretrain(
    tokens: np.ndarray,
    tokenizer: Any,
    steps: int,
    show: Callable[[int, float], None],
    seed: int = 0,
) -> Model:
    """A Llama with all its weights trained to continue `tokens` [n] int32.

    Each step sees `_ROWS` windows of `_WIDTH` tokens that begin anywhere; `show` is told the step
    and its loss per token.
    """
    fields = _LLAMA | {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = parse_config(fields, "the demo's base model")
    model = random_model(config, seed, spread=_SPREAD)
    definition, weights = nnx.split(model)
    rate = optax.warmup_cosine_decay_schedule(0, _PEAK_RATE, steps // 20, steps, _PEAK_RATE / 20)
    optimiser = optax.chain(optax.clip_by_global_norm(1), optax.adamw(rate, weight_decay=0.01))

    def loss(weights: Any, batch: Batch) -> Array:
        model: Any = nnx.merge(definition, weights)
        features = model(batch.tokens, batch.positions, batch.segments)
        total, weight = completion_loss(features, model.output, batch.tokens, batch.weights)
        return total[0] / weight[0]

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(weights: Any, moments: Any, batch: Batch) -> tuple[Any, Any, Array]:
        value, gradient = jax.value_and_grad(loss)(weights, batch)
        update, moments = optimiser.update(gradient, moments, weights)
        return optax.apply_updates(weights, update), moments, value

    rng = np.random.default_rng(seed)
    moments = optimiser.init(weights)
    shape = 1, _ROWS, _WIDTH
    places: Any = np.broadcast_to(np.arange(_WIDTH, dtype=np.int32), shape)
    one: Any = np.ones(shape, np.int32)
    for n in range(1, steps + 1):
        starts = rng.integers(0, len(tokens) - _WIDTH, _ROWS)
        rows: Any = tokens[starts[:, None] + np.arange(_WIDTH)][None]
        weights, moments, value = step(weights, moments, Batch(rows, places, one, one, None))
        if n % _TELL == 0 or n == steps:
            show(n, float(value))
    return nnx.merge(definition, weights)
