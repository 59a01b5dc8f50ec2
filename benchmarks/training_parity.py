"""Tiny models in bfloat16 on the device against the same weights in float32 on the CPU.

The reference is transformers on CPU torch where both are installed, else our own models on JAX's
CPU device; each check says which.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.machine import installed
from benchmarks.training_runs import Run, batch_for, drawn, first_line, prepared, train_step
from jaxtask.finetune.data.batch_type import Batch
from jaxtask.finetune.models.attention import Implementation
from jaxtask.finetune.models.config import parse_config
from jaxtask.finetune.models.decoder import Decoder
from jaxtask.finetune.models.load import Model, save_model

_LOGITS, _GRADIENTS = 2e-2, 5e-2
_OURS = "jaxtask, float32 on CPU"
# With larger random weights, models multiply the rounding of any implementation.
_SCALE = 0.1
_SHAPE = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 130,
}
_DECODER = {"hidden_act": "silu", "num_key_value_heads": 2, "rms_norm_eps": 1e-5}
_ENCODER = {"hidden_act": "gelu", "layer_norm_eps": 1e-5, "classifier_dropout": 0.0}
_TINY: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "rope_theta": 5e5, **_DECODER},
    "mistral": {"model_type": "mistral", "rope_theta": 1e4, "sliding_window": 7, **_DECODER},
    "roberta": {"model_type": "roberta", "type_vocab_size": 1, "pad_token_id": 1, **_ENCODER},
    "bert": {"model_type": "bert", "type_vocab_size": 2, "pad_token_id": 0, **_ENCODER},
}


def check_bfloat16() -> Iterator[dict[str, Any]]:
    """Each check's name, what it was held against, error, what is allowed, whether it holds."""
    attentions: list[Implementation] = ["xla"]
    if jax.default_backend() == "gpu":
        attentions.append("cudnn")
    for name, fields in _TINY.items():
        config = parse_config({**_SHAPE, **fields}, name)
        narrow = drawn(config, "bfloat16", scale=_SCALE)
        wide = _on_cpu(narrow)
        decoder = isinstance(narrow, Decoder)
        one = Run(name, 4, ("all-linear",), rows=3, places=48)
        # transformers has no packed rows.
        references = {1: _transformers(wide, batch_for(one, config))}
        for attention in attentions if decoder else attentions[:1]:
            for documents in (1, 3) if decoder else (1,):
                run = replace(one, attention=attention, documents=documents)
                known = references.get(documents) or _reference(run, wide)
                references[documents] = known
                yield _check(
                    f"{'logits' if decoder else 'last features'} of {name}, attention {attention}, "
                    f"documents in a row: {documents}",
                    partial(_outputs, run, narrow),
                    known,
                    _LOGITS,
                )
            yield _check(
                f"gradient norm of {name}, attention {attention}",
                partial(_norm, replace(one, attention=attention), narrow),
                (_cpu(partial(_norm, one, wide)), _OURS),
                _GRADIENTS,
            )


def _check(
    check: str,
    find: Callable[[], np.ndarray],
    reference: tuple[np.ndarray, str],
    allowed: float,
) -> dict[str, Any]:
    """The largest error, relative to the largest number of the reference."""
    row = {"check": check, "reference": reference[1], "allowed": allowed, "holds": False}
    try:
        found = find()
    except Exception as error:  # noqa: BLE001  # Of any kind: other checks must go on.
        return row | {"failed": first_line(error)}
    error = float(np.abs(found - reference[0]).max() / np.abs(reference[0]).max())
    return row | {"relative_error": error, "holds": error <= allowed}


def _outputs(run: Run, model: Model) -> np.ndarray:
    """Logits, or the last features of an encoder, [1, B, S, …] float32."""

    def outputs(tokens: Any, positions: Any, segments: Any) -> Any:
        if isinstance(model, Decoder):
            return model.logits(model(tokens, positions, segments, implementation=run.attention))
        return model(tokens, positions, segments)

    return np.asarray(jax.jit(outputs)(*batch_for(run, model.config)[:3]), np.float32)


def _reference(run: Run, wide: Model) -> tuple[np.ndarray, str]:
    return _cpu(partial(_outputs, replace(run, attention="xla"), wide)), _OURS


def _norm(run: Run, model: Model) -> np.ndarray:
    """Of the first step's gradient."""
    state, numbers = prepared(run, model.config)
    batch = batch_for(run, model.config)
    _, report = train_step(run, model)(state, numbers, batch, np.ones(1, bool))
    return np.asarray(report.norm)


def _cpu(function: Any) -> Any:
    with jax.default_device(jax.devices("cpu")[0]):
        return function()


def _on_cpu(model: Model) -> Model:
    """The same weights, in float32 on the CPU."""
    definition, state = nnx.split(model)
    with jax.default_device(jax.devices("cpu")[0]):
        wide = jax.tree.map(lambda x: jnp.asarray(np.asarray(x, np.float32)), state)
    return nnx.merge(definition, wide)


def _transformers(model: Model, batch: Batch) -> tuple[np.ndarray, str] | None:
    """What transformers makes of the model, or None where it or torch is not installed."""
    versions = [(name, installed(name)) for name in ("transformers", "torch")]
    if not all(version for _, version in versions):
        return None
    import torch
    import transformers

    decoder = isinstance(model, Decoder)
    family = transformers.AutoModelForCausalLM if decoder else transformers.AutoModel
    with tempfile.TemporaryDirectory() as home, warnings.catch_warnings(), torch.no_grad():
        # What other packages say is not ours to show.
        warnings.simplefilter("ignore")
        transformers.logging.set_verbosity_error()
        save_model(model, Path(home) / "model")
        theirs = family.from_pretrained(
            Path(home) / "model", dtype=torch.float32, attn_implementation="eager"
        )
        tokens = torch.from_numpy(np.asarray(batch.tokens[0], np.int64))
        output = theirs.eval()(tokens, attention_mask=torch.ones_like(tokens))
    found = output.logits if decoder else output.last_hidden_state
    name = ", ".join(f"{name} {version}" for name, version in versions)
    return found.float().numpy()[None], f"{name}, float32 on CPU"
