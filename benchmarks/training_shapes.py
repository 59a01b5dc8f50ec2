"""The models that are measured, by the fields of their `config.json`, and how much of what."""

from dataclasses import dataclass, field
from typing import Any

_SEVEN: dict[str, Any] = {
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
}
MISTRAL_7B = {
    **_SEVEN,
    "model_type": "mistral",
    "vocab_size": 32000,
    "max_position_embeddings": 32768,
    "rope_theta": 1e4,
    "sliding_window": 4096,
}
LLAMA_3_8B = {
    **_SEVEN,
    "model_type": "llama",
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "rope_theta": 5e5,
}
ROBERTA_BASE = {
    "model_type": "roberta",
    "hidden_act": "gelu",
    "vocab_size": 50265,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "pad_token_id": 1,
}


@dataclass(frozen=True)
class Shapes:
    """How large everything is."""

    rows: int = 8
    places: int = 2048
    steps: int = 50
    sweep_rows: tuple[int, ...] = (1, 4, 2)
    sweep_steps: int = 8
    products: tuple[tuple[int, int, int], ...] = (
        (8192, 8192, 8192),
        (16384, 4096, 14336),
        (16384, 14336, 4096),
    )
    repeats: int = 20
    tasks: tuple[int, ...] = (16, 4, 1)
    """The first against one after another."""
    encoder_rows: int = 16
    encoder_places: int = 128
    changes: dict[str, Any] = field(default_factory=dict)
    """Of the models."""

    def fields(self, model: dict[str, Any]) -> dict[str, Any]:
        """A model's `config.json`."""
        return {**model, **self.changes}


def small() -> Shapes:
    """To try the script on a CPU."""
    return Shapes(
        rows=2,
        places=64,
        steps=3,
        sweep_rows=(1,),
        sweep_steps=2,
        products=((512, 512, 512),),
        repeats=3,
        tasks=(4, 1),
        encoder_rows=2,
        encoder_places=16,
        changes={
            "vocab_size": 512,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        }
        | {"num_key_value_heads": 2},
    )
