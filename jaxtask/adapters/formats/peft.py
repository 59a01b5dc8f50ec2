"""An adapter in PEFT's format: `adapter_config.json` and its tensors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from jaxtask.adapters.adapter import Adapter, collect_entries
from jaxtask.adapters.factors import ArrayFactor, MatrixFactor, ModuleEntry, ScaledRowsFactor
from jaxtask.adapters.formats.peft_config import AdapterConfig, settle
from jaxtask.adapters.formats.peft_experts import ParameterTarget, expert_entries, find_parameters
from jaxtask.adapters.formats.peft_names import sort_names
from jaxtask.adapters.keys import module_keys, strip_wrappers
from jaxtask.adapters.tensors.stored import StoredTensor, dtype_name
from jaxtask.errors import AdapterError

# Of an update of rank 0, whose file holds nothing that would bound its size.
_WIDEST = 1 << 24
_PAIRS = (("lora_A", "lora_B"), ("lora_embedding_A", "lora_embedding_B"))


def read_peft(
    name: str,
    file: Path,
    tensors: dict[str, StoredTensor],
    config: AdapterConfig,
    notes: list[str],
    directional: bool,
) -> Adapter:
    """The adapter in `file`, whose header is `tensors`. Reads no tensor data.

    Raises:
        AdapterError: For every kind and every tensor that is not understood.

    """
    # What the config refuses comes first: its tensors may have names that make no sense here.
    settle(config.refusals, directional, config.file)
    names = sort_names(file, tensors, config)
    approximate = settle([*config.refusals, *names.refusals], directional, file)
    notes = [*notes, *config.notes]
    parameters = find_parameters(names.factors, config)
    if parameters:
        notes.extend(_parameter_notes(parameters, config))
    entries: list[ModuleEntry] = []
    for path, found in names.factors.items():
        target = parameters.get(path)
        if target is not None:
            A, B = _complete(file, path, found, "lora_A", "lora_B")
            _check_full(file, A, B)
            entries.extend(expert_entries(file, target, (A, B), config))
        else:
            entries.append(_entry(file, path, found, config, notes))
    if not entries:
        raise AdapterError(f"{file}: holds no lora_A and lora_B tensors, expected at least a pair")
    keys = module_keys(entry.path for entry in entries)
    keyed = [(keys[entry.path], entry) for entry in entries]
    for entry in entries:
        entry.dtype  # noqa: B018  (refuses a stored type that cannot be read, at opening)
    provenance: dict[str, Any] = {
        "source": str(file),
        "format": "peft",
        "config": config.fields,
        "excluded": {**config.excluded, **names.excluded},
        "notes": notes,
        "approximate": approximate,
    }
    return Adapter(name, config.base_model, provenance, collect_entries(keyed, str(file)))


def _parameter_notes(parameters: dict[str, ParameterTarget], config: AdapterConfig) -> list[str]:
    labels = sorted({target.label for target in parameters.values()})
    notes = [f"target_parameters: {', '.join(labels)}, split into one update an expert."]
    version = re.match(r"(\d+)\.(\d+)", config.peft_version or "0.0")
    if version is None or (int(version[1]), int(version[2])) < (0, 19):
        # PEFT before 0.19 read (experts, out, in) parameters as (experts, in, out).
        notes.append(
            "target_parameters saved by PEFT before 0.19, or by an unknown version: for parameters "
            "stored as (experts, out, in) the input and output sides are exchanged."
        )
    return notes


def _complete(
    file: Path, path: str, found: dict[str, StoredTensor], first: str, second: str
) -> tuple[StoredTensor, StoredTensor]:
    """Both tensors of a pair; raises `AdapterError` naming the one that is missing."""
    for here, missing in ((first, second), (second, first)):
        if here in found and missing not in found:
            name = found[here].name
            expected = path + name.removeprefix(path).replace(here, missing)
            raise AdapterError(f"{file}: holds '{name}' but not '{expected}'")
    return found[first], found[second]


def _check_full(file: Path, *tensors: StoredTensor) -> None:
    for tensor in tensors:
        if len(tensor.shape) < 2 or 0 in tensor.shape:
            raise AdapterError(
                f"{file}: '{tensor.name}' has shape {tensor.shape}, expected two dimensions or "
                "more, none empty: a partitioned parameter was saved without being gathered"
            )


def _entry(
    file: Path,
    path: str,
    found: dict[str, StoredTensor],
    config: AdapterConfig,
    notes: list[str],
) -> ModuleEntry:
    """One module that is no expert parameter."""
    pairs = [pair for pair in _PAIRS if not found.keys().isdisjoint(pair)]
    if len(pairs) != 1:
        raise AdapterError(
            f"{file}: module '{path}' has the tensors {', '.join(sorted(found))}: expected a pair"
        )
    A, B = _complete(file, path, found, *pairs[0])
    if config.adalora:
        return _adalora_entry(file, path, found, config)
    if "lora_E" in found:
        raise AdapterError(
            f"{file}: '{found['lora_E'].name}' belongs to AdaLoRA, but peft_type is 'LORA'"
        )
    _check_full(file, A, B)
    # torch's MultiheadAttention is wrapped as a whole: the name PEFT matches patterns against ends
    # before the wrapped layer.
    name = strip_wrappers(path).partition(".base_layer.")[0]
    rank = A.shape[0]
    if pairs[0][0] == "lora_embedding_A":
        if len(A.shape) != 2 or len(B.shape) != 2 or B.shape[1] != rank:
            raise _unchained(file, A, B, "(r, vocabulary) and (dim, r)")
        factors = MatrixFactor(A, transposed=True), MatrixFactor(B, transposed=True)
        kind = "embedding"
    else:
        check_chain(file, A, B)
        factors = MatrixFactor(B), MatrixFactor(A)
        kind = module_kind(A)
    if config.rank_of(name) != rank:
        notes.append(
            f"'{path}' has rank {rank}, the config says {config.rank_of(name)}: the tensor's own "
            "rank is used."
        )
    return ModuleEntry(path, config.scaling(name, rank), *factors, kind=kind)


def module_kind(A: StoredTensor) -> str:
    """What a module is whose A is stored so."""
    return "linear" if len(A.shape) == 2 else "convolution"


def check_chain(file: Path, A: StoredTensor, B: StoredTensor) -> None:
    """Check that A (r, in) and B (out, r), or kernels (r, in, k…) and (out, r, 1…), chain.

    Raises:
        AdapterError: They do not, or are empty or too wide.

    """
    if len(A.shape) == len(B.shape) == 2:
        if B.shape[1] != A.shape[0]:
            raise _unchained(file, A, B, "(r, in) and (out, r)")
        return
    if len(A.shape) != len(B.shape) or any(n != 1 for n in B.shape[2:]):
        raise _unchained(file, A, B, "kernels (r, in, …) and (out, r, 1, …)")
    if B.shape[1] != A.shape[0]:
        if A.shape[0] % B.shape[1] == 0:
            raise AdapterError(
                f"{file}: '{A.name}' {A.shape} and '{B.name}' {B.shape} belong to a grouped "
                f"convolution ({A.shape[0] // B.shape[1]} groups), which is refused: its update is "
                "block-diagonal, not B·A"
            )
        raise _unchained(file, A, B, "kernels (r, in, …) and (out, r, 1, …)")


def _unchained(file: Path, A: StoredTensor, B: StoredTensor, expected: str) -> AdapterError:
    return AdapterError(
        f"{file}: '{A.name}' {A.shape} and '{B.name}' {B.shape} do not chain, expected {expected}"
    )


def _adalora_entry(
    file: Path, path: str, found: dict[str, StoredTensor], config: AdapterConfig
) -> ModuleEntry:
    """ΔW = B·(A∘E)·α / (init_r + 1e-5), PEFT's own formula.

    The tensors hold only the singular values that training kept, the divisor stays the initial
    rank. A module that kept none is a zero update and is given as zeros of rank 1.
    """
    if "lora_embedding_A" in found or "lora_E" not in found:
        raise AdapterError(
            f"{file}: module '{path}' has the tensors {', '.join(sorted(found))}, expected lora_A, "
            "lora_B and lora_E, as peft_type is 'ADALORA'"
        )
    A, B, E = found["lora_A"], found["lora_B"], found["lora_E"]
    if len(A.shape) != 2 or B.shape[1:] != A.shape[:1] or E.shape != (A.shape[0], 1):
        raise AdapterError(
            f"{file}: '{A.name}' {A.shape}, '{B.name}' {B.shape} and '{E.name}' {E.shape} do not "
            "chain, expected (r, in), (out, r) and (r, 1)"
        )
    alpha = config.alpha if config.alpha > 0 else float(A.shape[0])
    scale = alpha / (config.init_r + 1e-5)
    if A.shape[0] == 0:
        if max(B.shape[0], A.shape[1]) > _WIDEST:
            raise _unchained(file, A, B, f"at most {_WIDEST:,} of each")
        zero_B, zero_A = np.zeros((B.shape[0], 1), B.widened), np.zeros((1, A.shape[1]), A.widened)
        return ModuleEntry(
            path,
            scale,
            ArrayFactor(zero_B, dtype_name(B.dtype)),
            ArrayFactor(zero_A, dtype_name(A.dtype)),
        )
    return ModuleEntry(path, scale, MatrixFactor(B), ScaledRowsFactor(A, E))
