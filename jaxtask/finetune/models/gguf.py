"""GGUF files of decoders, through the optional `gguf` package.

For Llama, GGUF keeps the rows of q and k so that neighbouring features are rotated together; here,
as in Hugging Face files, feature n of a head is rotated with feature n + half.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxtask.errors import JaxtaskError, ModelError
from jaxtask.finetune.models.architectures import DECODERS, DecoderArchitecture
from jaxtask.finetune.models.config import DecoderConfig, parse_config
from jaxtask.finetune.models.gguf_file import GgufFile, read_gguf

# GGUF's names of modules, whatever the architecture, and ours.
_MODULES = {
    "token_embd": "embedding",
    "output_norm": "norm",
    "output": "head",
    "attn_norm": "input_norm",
    "ffn_norm": "mlp_norm",
    "attn_q": "q_proj",
    "attn_k": "k_proj",
    "attn_v": "v_proj",
    "attn_output": "o_proj",
    "ffn_gate": "gate_proj",
    "ffn_up": "up_proj",
    "ffn_down": "down_proj",
}
_ROPE_FACTORS = "rope_freqs.weight"
_MOST_FACTORS = 1 << 16


class GgufWeights:
    """The tensors of a GGUF file under their Hugging Face names, dequantised when they are read."""

    def __init__(self, file: Path) -> None:
        self.source = str(file)
        self._file = open_gguf(file, ModelError)
        self._kind = self._architecture()
        row = DECODERS[self._kind]
        self._names: dict[str, str] = {}
        for name in self._file.tensors:
            if name != _ROPE_FACTORS and self._names.setdefault(_name(name, row), name) != name:
                raise ModelError(f"{file}: two tensors are one and the same: '{_name(name, row)}'")
        self.shapes = {ours: self._file.tensors[name].shape for ours, name in self._names.items()}
        self.config = self._config(row, self._factors())

    def read(self, name: str) -> np.ndarray:
        """See `Weights.read`; float32."""
        stored, config = self._names[name], self.config
        heads = {"attn_q": config.heads, "attn_k": config.kv_heads}.get(stored.split(".")[-2])
        values = self._values(stored)
        return _apart(values, heads) if heads and config.row.interleaved else values

    def _values(self, name: str) -> np.ndarray:
        import gguf

        stored = self._file.tensors[name]
        kind = gguf.GGMLQuantizationType(stored.kind)
        rows = self._file.bytes_of(name).reshape(*stored.shape[:-1], -1) if stored.size else None
        if rows is None:
            return np.zeros(stored.shape, np.float32)
        plain = {"F32": np.float32, "F16": np.float16, "F64": np.float64}.get(kind.name)
        if plain is not None:
            return rows.view(plain).astype(np.float32)
        try:
            return np.asarray(gguf.quants.dequantize(rows, kind), np.float32)
        except NotImplementedError as error:
            raise ModelError(
                f"{self.source}: tensor '{name}' is stored as {kind.name}, which the gguf package "
                "cannot dequantise"
            ) from error

    def _factors(self) -> tuple[float, ...] | None:
        """What rotary wavelengths grow by, if the file has it."""
        stored = self._file.tensors.get(_ROPE_FACTORS)
        if stored is None:
            return None
        if len(stored.shape) != 1 or stored.shape[0] > _MOST_FACTORS:
            raise ModelError(f"{self.source}: '{_ROPE_FACTORS}' has the shape {stored.shape}")
        factors = tuple(float(factor) for factor in self._values(_ROPE_FACTORS))
        if not all(math.isfinite(factor) and factor > 0 for factor in factors):
            raise ModelError(f"{self.source}: '{_ROPE_FACTORS}' are not all above 0")
        return factors

    def _architecture(self) -> str:
        found = self._field("general.architecture")
        read = [name for name, row in DECODERS.items() if row.interleaved is not None]
        if found not in read:
            raise ModelError(
                f"{self.source}: general.architecture is {found!r:.80}, expected "
                f"{' or '.join(map(repr, read))} (the only architecture read from GGUF files)"
            )
        return str(found)

    def _config(self, row: DecoderArchitecture, factors: tuple[float, ...] | None) -> DecoderConfig:
        kind = self._kind
        scaling = self._field(f"{kind}.rope.scaling.type", "none")
        if scaling != "none":
            raise ModelError(
                f"{self.source}: {kind}.rope.scaling.type is {scaling!r:.80}, which is not "
                "supported"
            )
        if self._field(f"{kind}.expert_count", 0):
            raise ModelError(f"{self.source}: is a mixture of experts, which is not supported")
        embedding = self.shapes.get(f"{row.names['embedding']}.weight", ())
        fields: dict[str, Any] = {
            "model_type": kind,
            "vocab_size": embedding[0] if embedding else 0,
            "hidden_size": self._field(f"{kind}.embedding_length"),
            "num_hidden_layers": self._field(f"{kind}.block_count"),
            "num_attention_heads": self._field(f"{kind}.attention.head_count"),
            "num_key_value_heads": self._field(f"{kind}.attention.head_count_kv", None),
            "head_dim": self._field(f"{kind}.attention.key_length", None),
            "intermediate_size": self._field(f"{kind}.feed_forward_length"),
            "rms_norm_eps": self._field(f"{kind}.attention.layer_norm_rms_epsilon"),
            "rope_theta": self._field(f"{kind}.rope.freq_base", 10000.0),
            "tie_word_embeddings": f"{row.names['head']}.weight" not in self.shapes,
            "max_position_embeddings": self._field(f"{kind}.context_length"),
            "bos_token_id": self._field("tokenizer.ggml.bos_token_id", None),
            "eos_token_id": self._field("tokenizer.ggml.eos_token_id", None),
        }
        for name, modules in row.bias_fields.items():
            biases = tuple(f".{row.path(module)}.bias" for module in modules)
            fields[name] = any(tensor.endswith(biases) for tensor in self.shapes)
        config = parse_config(fields, self.source)
        assert isinstance(config, DecoderConfig)
        rotated = self._field(f"{kind}.rope.dimension_count", config.head_width)
        if rotated != config.head_width:
            raise ModelError(
                f"{self.source}: {kind}.rope.dimension_count is {rotated!r:.80}, expected "
                f"{config.head_width}: partly rotated heads are not supported"
            )
        if factors is not None and 2 * len(factors) != config.head_width:
            raise ModelError(
                f"{self.source}: '{_ROPE_FACTORS}' are {len(factors)}, expected "
                f"{config.head_width // 2}"
            )
        return replace(config, rope=replace(config.rope, factors=factors))

    def _field(self, name: str, *missing: Any) -> Any:
        if name in self._file.fields:
            return self._file.fields[name]
        if missing:
            return missing[0]
        raise ModelError(f"{self.source}: lacks the field '{name}'")


def open_gguf(file: Path, error: type[JaxtaskError]) -> GgufFile:
    """The header of a GGUF file.

    Raises:
        error: Also where the package `gguf` is not there.

    """
    try:
        import gguf
    except ImportError as missing:
        raise error(f"{file}: reading GGUF files needs the package: pip install gguf") from missing
    return read_gguf(file, error, {int(k): size for k, size in gguf.GGML_QUANT_SIZES.items()})


def _name(name: str, row: DecoderArchitecture) -> str:
    """The Hugging Face name; a name with no counterpart stays, and is refused as unknown later."""
    parts = re.fullmatch(r"(blk\.([^.]*)\.)?([^.]*)\.([^.]*)", name)
    theirs = row.names.get(_MODULES.get(parts[3], "")) if parts else None
    if parts is None or theirs is None or bool(parts[1]) != ("{layer}" in theirs):
        return name
    return f"{theirs.format(layer=row.layer.format(parts[2]))}.{parts[4]}"


def _apart(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from the order 0, half, 1, half + 1, … to 0, 1, …, half, half + 1, …."""
    split = rows.reshape(heads, -1, 2, *rows.shape[1:])
    return split.swapaxes(1, 2).reshape(rows.shape)
