"""Which tensor of a Hugging Face file is which parameter here: one table, for both directions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from jaxtask.errors import ModelError, shown
from jaxtask.finetune.models.architectures import DECODER_LINEARS, ENCODER_LINEARS
from jaxtask.finetune.models.config import DecoderConfig, EncoderConfig, ModelConfig


class Place(NamedTuple):
    """Where a tensor goes: the parameter, the layer within its stack, and whether it is turned."""

    path: tuple[str, ...]
    layer: int | None
    transposed: bool


# Tensors of files that are no part of the model here, and why.
_NOT_WANTED = {
    "rotary": r"(.*\.)?rotary_emb\.inv_freq",  # computed from the config
    "positions": r"(.*\.)?embeddings\.position_ids",  # 0, 1, 2, …
    "pretraining head": r"(lm_head|cls)\..*",
    "classifier": r"classifier\..*",  # trained per task, see `load_head`
    "pooler": r"(\w+\.)?pooler\..*",  # where the classifier does not use it
}
_DECODER_DROPS = ("rotary",)
_ENCODER_DROPS = ("positions", "pretraining head", "classifier")


def places(config: ModelConfig) -> dict[str, Place]:
    """Every tensor that a file of this model holds, by name, and its place; no place twice."""
    table = _decoder(config) if isinstance(config, DecoderConfig) else _encoder(config)
    named = {}
    for name, (path, transposed) in table.items():
        if "{layer}" in name:
            for n in range(config.layers):
                full = name.replace("{layer}", config.layer_name(n))
                named[full] = Place(("layers", *path), n, transposed)
        else:
            named[name] = Place(path, None, transposed)
    return named


def match_names(found: Iterable[str], config: ModelConfig, where: str) -> dict[str, Place]:
    """The place of every tensor named in `found` that the model wants.

    Accepts files of the model without its head (whose names lack the first part) and the norm names
    of old BERT files.

    Raises:
        ModelError: Listing the names that have no place, the places that no name fills, or names
            that mean one place.

    """
    wanted = places(config)
    prefix = "model." if isinstance(config, DecoderConfig) else f"{config.architecture}."
    matched: dict[str, Place] = {}
    unknown = []
    for name in found:
        plain = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
        plain = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", plain)
        for candidate in (plain, prefix + plain):
            if candidate in wanted:
                matched[name] = wanted[candidate]
                break
        else:
            if not _dropped(plain, config):
                unknown.append(name)
    filled = set(matched.values())
    if len(filled) < len(matched):
        twice = [name for name, place in matched.items() if list(matched.values()).count(place) > 1]
        raise ModelError(f"{where}: tensors that are one and the same: {_some(twice)}")
    missing = [name for name, place in wanted.items() if place not in filled]
    if unknown or missing:
        parts = [
            f"{what}: {_some(names)}"
            for what, names in (
                (f"tensors with no place in a {config.architecture} model", unknown),
                ("tensors that the model needs and the file lacks", missing),
            )
            if names
        ]
        raise ModelError(f"{where}: {'; '.join(parts)}")
    return matched


def _dropped(name: str, config: ModelConfig) -> bool:
    if isinstance(config, DecoderConfig):
        if config.tied and name == "lm_head.weight":  # a copy of the embedding
            return True
        kinds: tuple[str, ...] = _DECODER_DROPS
    else:
        kinds = _ENCODER_DROPS + (() if config.row.pooler else ("pooler",))
    return any(re.fullmatch(_NOT_WANTED[kind], name) for kind in kinds)


def _some(names: list[str]) -> str:
    first = ", ".join(shown(name, 70) for name in names[:5])
    return first if len(names) <= 5 else f"{first} and {len(names) - 5} more"


_Table = dict[str, tuple[tuple[str, ...], bool]]


def _decoder(config: DecoderConfig) -> _Table:
    table: _Table = {
        "model.embed_tokens.weight": (("embedding",), False),
        "model.norm.weight": (("norm", "scale"), False),
        "{layer}.input_layernorm.weight": (("input_norm", "scale"), False),
        "{layer}.post_attention_layernorm.weight": (("mlp_norm", "scale"), False),
    }
    if not config.tied:
        table["lm_head.weight"] = (("head",), False)
    for module, linear in DECODER_LINEARS.items():
        table |= _linear(f"{{layer}}.{module}", linear.parameter, module in config.biased)
    return table


def _encoder(config: EncoderConfig) -> _Table:
    embeddings = f"{config.architecture}.embeddings"
    table: _Table = {
        f"{embeddings}.word_embeddings.weight": (("words",), False),
        f"{embeddings}.position_embeddings.weight": (("places",), False),
        f"{embeddings}.token_type_embeddings.weight": (("types",), False),
        **_norm(f"{embeddings}.LayerNorm", "norm"),
        **_norm("{layer}.attention.output.LayerNorm", "attention_norm"),
        **_norm("{layer}.output.LayerNorm", "output_norm"),
    }
    for module, linear in ENCODER_LINEARS.items():
        table |= _linear(f"{{layer}}.{module}", linear.parameter, True)
    if config.row.pooler:
        table |= _linear(f"{config.architecture}.pooler.dense", "pooler", True)
    return table


def _linear(name: str, ours: str, bias: bool) -> _Table:
    table: _Table = {f"{name}.weight": ((ours, "kernel"), True)}
    return table | {f"{name}.bias": ((ours, "bias"), False)} if bias else table


def _norm(name: str, ours: str) -> _Table:
    return {f"{name}.weight": ((ours, "scale"), False), f"{name}.bias": ((ours, "bias"), False)}
