"""Adapters of image and video models as diffusers saves them: one file for a whole pipeline.

A tensor's name begins with the component that it belongs to, and continues as in PEFT's format:
``unet.….to_q.lora_A.weight``, ``text_encoder.….q_proj.lora_A.weight``; earlier versions wrote
``….lora.down.weight`` or ``….lora_linear_layer.down.weight`` for A, and ``up`` for B. There is no
config file. The scaling is, for each component by itself,

- what the file's header says in ``lora_adapter_metadata``: the fields of PEFT's config, each behind
  its component (``unet.r``, ``unet.lora_alpha``, ``unet.alpha_pattern``, …), or without any if the
  whole file belongs to one model;
- or α/r by a scalar ``<module>.alpha`` for each module;
- or else 1: diffusers then takes the rank as α, of the first module for all. Where the ranks differ
  this depends on the order of a dictionary, so it is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtask.adapters.adapter import Adapter, collect_entries
from jaxtask.adapters.factors import ModuleEntry
from jaxtask.adapters.formats.kohya import read_alpha
from jaxtask.adapters.formats.peft import read_peft
from jaxtask.adapters.formats.peft_config import AdapterConfig, check_config
from jaxtask.adapters.keys import module_keys
from jaxtask.adapters.tensors.stored import StoredTensor
from jaxtask.errors import AdapterError, shown
from jaxtask.text_files import as_object, parse_json

METADATA = "lora_adapter_metadata"
COMPONENTS = frozenset(
    {"unet", "transformer", "transformer_2", "text_encoder", "text_encoder_2", "text_encoder_3"}
    | {"prior", "controlnet", "connectors", "image_encoder"}
)
_ALPHA = ".alpha"
_ENDINGS = {
    f".{middle}.{theirs}.weight": f".{ours}.weight"
    for middle in ("lora", "lora_linear_layer")
    for theirs, ours in (("down", "lora_A"), ("up", "lora_B"))
}
# GPT-2's and its kin's own names, which are no pipeline's.
_TEXT = ("transformer.h.", "transformer.layer.", "transformer.encoder.")
_OLD = ("_lora.down.weight", "_lora.up.weight")


def is_diffusers(tensors: Mapping[str, StoredTensor], metadata: Mapping[str, str]) -> bool:
    """Whether the header says so, or any tensor has diffusers' name of a factor."""
    if METADATA in metadata:
        return True
    return any(
        name.endswith(_OLD) or (_component(name) in COMPONENTS and ".lora_A." in _peft_name(name))
        for name in tensors
        if not name.startswith(_TEXT)
    )


def read_diffusers(
    name: str,
    file: Path,
    tensors: Mapping[str, StoredTensor],
    metadata: Mapping[str, str],
    notes: list[str],
    directional: bool,
) -> Adapter:
    """The adapter in `file`. Reads the alphas, no other tensor data.

    Raises:
        AdapterError: For every kind and every tensor that is not understood.

    """
    for tensor_name in tensors:
        if tensor_name.endswith(_OLD) or ".processor." in tensor_name:
            raise AdapterError(
                f"{file}: tensor '{tensor_name}' has a name of diffusers' attention processors "
                "before version 0.22, which do not tell the module: load and save it with a newer "
                "diffusers"
            )
    configs = _configs(file, metadata) if METADATA in metadata else None
    whole = configs is not None and set(configs) == {""}
    parts: dict[str, dict[str, StoredTensor]] = {}
    for tensor_name, tensor in tensors.items():
        component = "" if whole else _component(tensor_name)
        rest = tensor_name.removeprefix(f"{component}.") if component else tensor_name
        parts.setdefault(component, {})[_peft_name(rest)] = tensor
    keyed: list[ModuleEntry] = []
    excluded: dict[str, str] = {}
    approximate: list[str] = []
    for component, part in parts.items():
        before = f"{component}." if component else ""
        alphas = {n: part.pop(n) for n in list(part) if n.endswith(_ALPHA)}
        if configs is None:
            config = _plain_config(file, component, part)
        else:
            config = _told_config(file, component, configs, alphas)
        one = read_peft(name, file, part, config, [], directional)
        entries = [one.entry(key) for key in one.modules]
        if configs is not None:
            told = one.provenance["notes"]
            notes += [f"{component}: {note}" if component else note for note in told]
        elif alphas:
            entries = _scaled(file, before, entries, alphas)
        else:
            _check_ranks(file, component, entries)
            notes.append(f"{component}: no alphas and no {METADATA}: scaling 1, as in diffusers.")
        keyed += [dataclasses.replace(e, path=before + e.path) for e in entries]
        excluded |= {before + what: why for what, why in one.provenance["excluded"].items()}
        if one.provenance["approximate"]:
            approximate.append(one.provenance["approximate"])
    keys = module_keys(entry.path for entry in keyed)
    provenance: dict[str, Any] = {
        "source": str(file),
        "format": "diffusers",
        "config": {c: f for c, f in (configs or {}).items() if c in parts},
        "excluded": excluded,
        "notes": notes,
        "approximate": "; ".join(dict.fromkeys(approximate)) or None,
    }
    entries_by_key = collect_entries([(keys[e.path], e) for e in keyed], str(file))
    return Adapter(name, None, provenance, entries_by_key)


def _component(name: str) -> str:
    return name.partition(".")[0]


def _peft_name(name: str) -> str:
    """The name as PEFT has it."""
    for theirs, ours in _ENDINGS.items():
        if name.endswith(theirs):
            return name.removesuffix(theirs) + ours
    return name


def _configs(file: Path, metadata: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """PEFT's fields for each component; "" is the whole file."""
    where = f"{file}: {METADATA} of its header"
    fields = as_object(parse_json(metadata[METADATA], where, AdapterError), where, AdapterError)
    configs: dict[str, dict[str, Any]] = {}
    for key, value in fields.items():
        component, _, field = key.rpartition(".")
        configs.setdefault(component, {})[field] = value
    if len(configs) > 1 and "" in configs:
        raise AdapterError(
            f"{where}: has fields with a component in front ({shown(max(configs), 60)}) and fields "
            f"without ({shown(min(configs['']), 60)}), expected one or the other"
        )
    return configs


def _told_config(
    file: Path,
    component: str,
    configs: Mapping[str, dict[str, Any]],
    alphas: Mapping[str, StoredTensor],
) -> AdapterConfig:
    """The config of one component by the header."""
    if alphas:
        raise AdapterError(
            f"{file}: has {METADATA} in its header and '{next(iter(alphas.values())).name}': two "
            "scalings, of which diffusers refuses one"
        )
    if component not in configs:
        raise AdapterError(
            f"{file}: {METADATA} of its header speaks of {', '.join(map(shown, configs)) or 'none'}"
            f", but the file has tensors of {component!r}: their scaling is unknown"
        )
    return check_config(file, {"peft_type": "LORA", **configs[component]})


def _plain_config(file: Path, component: str, part: Mapping[str, StoredTensor]) -> AdapterConfig:
    """A config of scaling 1 at the first rank, for a file that says nothing."""
    if component not in COMPONENTS:
        name = next(iter(part.values())).name if part else component
        raise AdapterError(
            f"{file}: tensor '{name}' belongs to no component of a pipeline that is known "
            f"({', '.join(sorted(COMPONENTS))})"
        )
    rank = next((t.shape[0] for n, t in part.items() if ".lora_A." in n and t.shape), 1)
    return check_config(file, {"peft_type": "LORA", "r": rank or 1, "lora_alpha": rank or 1})


def _check_ranks(file: Path, component: str, entries: list[ModuleEntry]) -> None:
    first: dict[int, str] = {}
    for entry in entries:
        first.setdefault(entry.A.shape[0], entry.path)
    if len(first) > 1:
        (r, one), (s, other), *_ = first.items()
        raise AdapterError(
            f"{file}: {component} has modules of different ranks ('{one}' {r}, '{other}' {s}), no "
            f"alphas and no {METADATA} in the header: diffusers takes the rank of its first module "
            "as alpha of all, so the scaling is unknown"
        )


def _scaled(
    file: Path, before: str, entries: list[ModuleEntry], alphas: Mapping[str, StoredTensor]
) -> list[ModuleEntry]:
    """The entries with α/r; every module has its own alpha."""
    left = dict(alphas)
    scaled = []
    for entry in entries:
        tensor = left.pop(entry.path + _ALPHA, None)
        if tensor is None:
            raise AdapterError(
                f"{file}: has alphas ('{next(iter(alphas.values())).name}'), but none for "
                f"'{before}{entry.path}'"
            )
        scale = read_alpha(file, tensor) / entry.A.shape[0]
        scaled.append(dataclasses.replace(entry, scale=scale))
    if left:
        name = next(iter(left.values())).name
        raise AdapterError(f"{file}: '{name}' belongs to no module of the file")
    return scaled
