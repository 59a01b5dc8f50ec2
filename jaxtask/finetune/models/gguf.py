"""GGUF files of Llama models, through the optional `gguf` package.

GGUF keeps the rows of q and k so that neighbouring features are rotated together; here, as in
Hugging Face files, feature n of a head is rotated with feature n + half.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxtask.errors import ModelError
from jaxtask.finetune.models.config import DecoderConfig
from jaxtask.finetune.models.rope import Rope

_PLAIN = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_OF_LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_ROPE_FACTORS = "rope_freqs.weight"


class GgufWeights:
    """The tensors of a GGUF file under their Hugging Face names, dequantised when they are read."""

    def __init__(self, file: Path) -> None:
        try:
            import gguf
        except ImportError as error:
            raise ModelError(
                f"{file}: reading GGUF files needs the package: pip install gguf."
            ) from error
        self.source = str(file)
        self._dequantize: Any = gguf.quants.dequantize
        try:
            self._reader: Any = gguf.GGUFReader(file)
        except (OSError, ValueError, IndexError, KeyError) as error:
            raise ModelError(f"{file}: is missing, cut off or no GGUF file: {error}.") from error
        self._tensors: dict[str, Any] = {}
        factors = None
        for tensor in self._reader.tensors:
            if tensor.name == _ROPE_FACTORS:
                factors = tuple(float(f) for f in self._values(tensor))
            else:
                self._tensors[_name(tensor.name)] = tensor
        # GGUF lists dimensions from the fastest to the slowest.
        self.shapes = {
            name: tuple(int(n) for n in tensor.shape[::-1])
            for name, tensor in self._tensors.items()
        }
        self.config = self._config(factors)

    def read(self, name: str) -> np.ndarray:
        """See `Weights.read`; float32."""
        values = self._values(self._tensors[name]).reshape(self.shapes[name])
        if name.endswith(("q_proj.weight", "q_proj.bias")):
            return _apart(values, self.config.heads)
        if name.endswith(("k_proj.weight", "k_proj.bias")):
            return _apart(values, self.config.kv_heads)
        return values

    def _values(self, tensor: Any) -> np.ndarray:
        try:
            return np.asarray(self._dequantize(tensor.data, tensor.tensor_type), np.float32)
        except NotImplementedError as error:
            raise ModelError(
                f"{self.source}: tensor '{tensor.name}' is stored as {tensor.tensor_type.name}, "
                "which the gguf package cannot dequantise."
            ) from error

    def _config(self, factors: tuple[float, ...] | None) -> DecoderConfig:
        architecture = self._field("general.architecture")
        if architecture != "llama":
            raise ModelError(
                f"{self.source}: general.architecture is {architecture!r}, expected 'llama' (the "
                "only architecture read from GGUF files)."
            )
        scaling = self._field("llama.rope.scaling.type", "none")
        if scaling != "none":
            raise ModelError(
                f"{self.source}: llama.rope.scaling.type is {scaling!r}, which is not supported."
            )
        if self._field("llama.expert_count", 0):
            raise ModelError(f"{self.source}: is a mixture of experts, which is not supported.")
        heads = int(self._field("llama.attention.head_count"))
        width = int(self._field("llama.embedding_length"))
        head_width = int(self._field("llama.attention.key_length", width // heads))
        rotated = int(self._field("llama.rope.dimension_count", head_width))
        if rotated != head_width:
            raise ModelError(
                f"{self.source}: llama.rope.dimension_count is {rotated}, expected {head_width}: "
                "partly rotated heads are not supported."
            )
        begin, end = (self._field(f"tokenizer.ggml.{n}_token_id", None) for n in ("bos", "eos"))
        return DecoderConfig(
            architecture="llama",
            vocabulary=self.shapes.get("model.embed_tokens.weight", (0,))[0],
            width=width,
            layers=int(self._field("llama.block_count")),
            heads=heads,
            kv_heads=int(self._field("llama.attention.head_count_kv", heads)),
            head_width=head_width,
            mlp_width=int(self._field("llama.feed_forward_length")),
            norm_eps=float(self._field("llama.attention.layer_norm_rms_epsilon")),
            rope=Rope(float(self._field("llama.rope.freq_base", 10000.0)), factors=factors),
            window=None,
            tied="lm_head.weight" not in self.shapes,
            attention_bias=any(name.endswith("q_proj.bias") for name in self.shapes),
            mlp_bias=any(name.endswith("up_proj.bias") for name in self.shapes),
            positions=int(self._field("llama.context_length")),
            begin=None if begin is None else int(begin),
            ends=() if end is None else (int(end),),
        )

    def _field(self, name: str, *missing: Any) -> Any:
        field = self._reader.get_field(name)
        if field is not None:
            return field.contents()
        if missing:
            return missing[0]
        raise ModelError(f"{self.source}: lacks the field '{name}'.")


def _name(name: str) -> str:
    """The Hugging Face name; a name with no counterpart stays, and is refused as unknown later."""
    if name in _PLAIN:
        return _PLAIN[name]
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _OF_LAYER:
        return f"model.layers.{parts[1]}.{_OF_LAYER[parts[2]]}.{parts[3]}"
    return name


def _apart(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from the order 0, half, 1, half + 1, … to 0, 1, …, half, half + 1, …."""
    split = rows.reshape(heads, -1, 2, *rows.shape[1:])
    return split.swapaxes(1, 2).reshape(rows.shape)
