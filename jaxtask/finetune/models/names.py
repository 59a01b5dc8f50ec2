"""Which tensor of a Hugging Face file is which parameter here, for both directions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from flax import nnx

from jaxtask.errors import ModelError, shown
from jaxtask.finetune.models.config import DecoderConfig, ModelConfig
from jaxtask.finetune.models.decoder import Decoder
from jaxtask.finetune.models.encoder import Encoder


class Place(NamedTuple):
    """Where a tensor goes: the parameter, the layer within its stack, and whether it is turned."""

    path: tuple[str, ...]
    layer: int | None
    transposed: bool


# A parameter within its module: its name here, its name in files, and whether it is turned.
_PARAMETERS = (
    (("kernel",), "weight", True),
    (("scale",), "weight", False),
    (("bias",), "bias", False),
    ((), "weight", False),  # a parameter without a module
)


def places(model: Decoder | Encoder) -> dict[str, Place]:
    """Every tensor that a file of this model holds, by name, and its place; no place twice."""
    config, there = model.config, {path for path, _ in nnx.to_flat_state(nnx.state(model))}
    named = {}
    for ours, theirs in config.row.names.items():
        stacked = "{layer}" in theirs
        layers = range(config.layers) if stacked else (None,)
        for own, end, transposed in _PARAMETERS:
            path = ("layers", ours, *own) if stacked else (ours, *own)
            for n in layers if path in there else ():
                name = theirs if n is None else theirs.format(layer=config.layer_name(n))
                named[f"{name}.{end}"] = Place(path, n, transposed)
    return named


def match_names(found: Iterable[str], model: Decoder | Encoder, where: str) -> dict[str, Place]:
    """The place of every tensor named in `found` that the model wants.

    Accepts files of the model without its head (whose names lack the first part) and the norm names
    of old BERT files.

    Raises:
        ModelError: Listing the names that have no place, the places that no name fills, or names
            that mean one place.

    """
    wanted, config = places(model), model.config
    matched: dict[str, Place] = {}
    unknown = []
    for name in found:
        plain = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
        plain = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", plain)
        for candidate in (plain, config.row.prefix + plain):
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
    if (
        isinstance(config, DecoderConfig)
        and config.tied
        and name == f"{config.row.names['head']}.weight"
    ):
        return True  # a copy of the embedding
    return any(re.fullmatch(pattern, name) for pattern in config.row.unused)


def _some(names: list[str]) -> str:
    first = ", ".join(shown(name, 70) for name in names[:5])
    return first if len(names) <= 5 else f"{first} and {len(names) - 5} more"
