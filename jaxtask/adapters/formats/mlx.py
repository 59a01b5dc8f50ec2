"""Adapters of mlx-lm: `adapters.safetensors` beside an `adapter_config.json` of its own form.

A linear module applies x·a·b, with ``<module>.lora_a`` (in, r) and ``<module>.lora_b`` (r, out), so
ΔW = s·(a·b)ᵀ. An embedding, (vocabulary, dim), has ΔW = s·a·b with a (vocabulary, r) and b
(r, dim); nothing but its name tells it. The experts of a layer share one pair, a (E, r, in) and b
(E, out, r), with ΔW_e = s·b_e·a_e; each becomes a module of its own, named as an expert is in
transformers: ``…mlp.switch_mlp.up_proj`` holds ``…mlp.experts.3.up_proj``.

The s is the config's ``scale`` for all modules. Until late 2024 mlx-lm had an ``alpha`` too, with
s = scale·alpha/rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtask.adapters.adapter import Adapter, collect_entries
from jaxtask.adapters.factors import Factor, MatrixFactor, ModuleEntry, SliceFactor
from jaxtask.adapters.formats.peft_config import settle
from jaxtask.adapters.formats.peft_fields import Refusal
from jaxtask.adapters.keys import module_keys
from jaxtask.adapters.tensors.stored import StoredTensor
from jaxtask.errors import AdapterError, shown

SWITCH, EXPERTS = "switch_mlp", "experts"
_DORA = Refusal("DoRA", "it rescales the rows of W + s·B·A, which needs the base weights", True)
# What mlx-lm's models call the embeddings, which have the same tensors as linear modules.
# fmt: off
EMBEDDINGS = frozenset({
    "embed_tokens", "embed_tokens_per_layer", "embed_in", "embed_positions", "embedding",
    "embeddings", "position_embeddings", "shared", "tok_embeddings", "token_type_embeddings",
    "word_embeddings", "word_token_embedding", "wpe", "wte",
})
# fmt: on
_PARAMETERS = frozenset({"rank", "scale", "dropout", "keys", "alpha", "lora_alpha"})
_KEPT = ("fine_tune_type", "num_layers", "lora_layers", "lora_parameters", "model")


def is_mlx_config(fields: Mapping[str, Any]) -> bool:
    """Whether an ``adapter_config.json`` is of mlx-lm."""
    return "peft_type" not in fields and ("lora_parameters" in fields or "fine_tune_type" in fields)


def is_mlx(tensors: Mapping[str, StoredTensor]) -> bool:
    """Whether any tensor has mlx-lm's name of a factor."""
    return any(name.endswith((".lora_a", ".lora_b")) for name in tensors)


def read_mlx(
    name: str,
    file: Path,
    tensors: Mapping[str, StoredTensor],
    config: Path,
    fields: Mapping[str, Any],
    notes: list[str],
    directional: bool,
) -> Adapter:
    """The adapter in `file`, whose header is `tensors`, by the `fields` of `config`.

    Reads no tensor data.

    Raises:
        AdapterError: For every kind and every tensor that is not understood.

    """
    refusals = _config_refusals(config, fields)
    settle(refusals, directional, config)
    pairs: dict[str, dict[str, StoredTensor]] = {}
    excluded: dict[str, str] = {}
    for tensor_name, tensor in tensors.items():
        path, _, last = tensor_name.rpartition(".")
        if last in ("lora_a", "lora_b") and path:
            pairs.setdefault(path, {})[last] = tensor
        elif last == "m":
            refusals.append(_DORA)
            excluded[tensor_name] = "DoRA's magnitudes"
        elif last.startswith(("lora_a_", "lora_b_")):
            raise AdapterError(
                f"{file}: tensor '{tensor_name}' belongs to quantised LoRA factors, which are no "
                "trained values but rounded ones: give the adapter that they were made from"
            )
        elif len(tensor.shape) == 1:
            excluded[tensor_name] = "a vector trained in full (bias or norm), not part of B·A"
        else:
            raise AdapterError(
                f"{file}: tensor '{tensor_name}' {tensor.shape} is neither lora_a nor lora_b: a "
                "matrix that was trained in full cannot be left out safely"
            )
    approximate = settle(refusals, directional, file)
    if not pairs:
        raise AdapterError(
            f"{file}: holds no lora_a and lora_b tensors, though {config.name} is of mlx-lm"
        )
    scale = _scale(config, fields, notes)
    entries: list[ModuleEntry] = []
    for path, found in pairs.items():
        entries.extend(_entries(file, path, found, scale))
    ranks = sorted({entry.A.shape[0] for entry in entries})
    if ranks != [fields["lora_parameters"].get("rank")]:
        notes.append(
            f"the config says rank {shown(fields['lora_parameters'].get('rank'))}, the tensors "
            f"have {', '.join(map(str, ranks))}: the tensors' own ranks are used."
        )
    keys = module_keys(entry.path for entry in entries)
    for entry in entries:
        entry.dtype  # noqa: B018  (refuses a stored type that cannot be read, at opening)
    provenance: dict[str, Any] = {
        "source": str(file),
        "format": "mlx",
        "config": {field: fields[field] for field in _KEPT if fields.get(field)},
        "excluded": excluded,
        "notes": notes,
        "approximate": approximate,
    }
    keyed = [(keys[entry.path], entry) for entry in entries]
    return Adapter(name, _base(config, fields), provenance, collect_entries(keyed, str(file)))


def _config_refusals(config: Path, fields: Mapping[str, Any]) -> list[Refusal]:
    """What of the config makes ΔW something else than s·B·A."""
    kind = fields.get("fine_tune_type", "lora")
    if kind == "full":
        raise AdapterError(
            f"{config}: fine_tune_type is 'full': {config.parent} holds whole weights, not B·A; "
            "`jaxtask extract` makes an adapter of two checkpoints"
        )
    if kind not in ("lora", "dora"):
        raise AdapterError(f"{config}: fine_tune_type is {shown(kind, 60)}, expected 'lora'")
    parameters = fields.get("lora_parameters")
    if not isinstance(parameters, dict):
        raise AdapterError(
            f"{config}: lora_parameters is {shown(parameters, 60)}, expected an object with scale"
        )
    refusals = [_DORA] if kind == "dora" or fields.get("use_dora") else []
    why = "a field this reader does not know may change what ΔW is"
    refusals += [
        Refusal(f"lora_parameters.{shown(field, 60)[1:-1]} = {shown(value, 60)}", why, True)
        for field, value in parameters.items()
        if value and field not in _PARAMETERS
    ]
    return refusals


def _scale(config: Path, fields: Mapping[str, Any], notes: list[str]) -> float:
    """The s of all modules."""
    parameters = fields["lora_parameters"]
    scale = _number(config, parameters, "scale")
    alphas = [field for field in ("alpha", "lora_alpha") if parameters.get(field) is not None]
    if not alphas:
        return scale
    if len(alphas) == 2:
        raise AdapterError(f"{config}: lora_parameters has both alpha and lora_alpha")
    alpha, rank = (_number(config, parameters, field) for field in (alphas[0], "rank"))
    if rank <= 0:
        raise AdapterError(f"{config}: lora_parameters.rank is {rank}, expected a positive rank")
    effective = scale * (alpha / rank)
    if not math.isfinite(effective):
        raise AdapterError(f"{config}: scale·{alphas[0]}/rank is {effective}, expected a number")
    notes.append(
        f"{alphas[0]} is of mlx-lm before 2025, which scaled by scale·{alphas[0]}/rank = "
        f"{effective:g}; later versions take scale alone, {scale:g}."
    )
    return effective


def _number(config: Path, parameters: Mapping[str, Any], field: str) -> float:
    value = parameters.get(field)
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)  # the parser leaves no larger whole numbers
        if math.isfinite(number):
            return number
    raise AdapterError(
        f"{config}: lora_parameters.{field} is {shown(value, 60)}, expected a finite number for "
        "the scaling"
    )


def _base(config: Path, fields: Mapping[str, Any]) -> str | None:
    base = fields.get("model")
    if base is not None and not isinstance(base, str):
        raise AdapterError(f"{config}: model is {shown(base, 60)}, expected text")
    return base or None


def _entries(
    file: Path, path: str, found: Mapping[str, StoredTensor], scale: float
) -> list[ModuleEntry]:
    """One module, or one an expert."""
    for here, missing in (("lora_a", "lora_b"), ("lora_b", "lora_a")):
        if missing not in found:
            raise AdapterError(f"{file}: holds '{path}.{here}' but not '{path}.{missing}'")
    a, b = found["lora_a"], found["lora_b"]
    if 0 in a.shape or 0 in b.shape:
        raise _unchained(file, a, b, "none empty")
    if len(b.shape) == 3:
        return _experts(file, path, a, b, scale)
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[1] != b.shape[0]:
        raise _unchained(file, a, b, "(in, r) and (r, out)")
    if path.rpartition(".")[2] in EMBEDDINGS:
        return [ModuleEntry(path, scale, MatrixFactor(a), MatrixFactor(b), kind="embedding")]
    factors = MatrixFactor(b, transposed=True), MatrixFactor(a, transposed=True)
    return [ModuleEntry(path, scale, *factors)]


def _experts(
    file: Path, path: str, a: StoredTensor, b: StoredTensor, scale: float
) -> list[ModuleEntry]:
    number, _, rank = b.shape
    # Older versions stored a as (E·r, in).
    if a.shape[:-1] not in ((number, rank), (number * rank,)):
        raise _unchained(file, a, b, "experts (E, r, in) and (E, out, r)")
    before, _, module = path.rpartition(".")
    parts = before.split(".") if before else []
    if parts[-1:] == [SWITCH]:
        parts[-1] = EXPERTS
    entries = []
    for expert in range(number):
        B: Factor = SliceFactor(b, expert, number)
        A: Factor = SliceFactor(a, expert, number)
        name = ".".join([*parts, str(expert), module])
        entries.append(ModuleEntry(name, scale, B, A, kind="expert"))
    return entries


def _unchained(file: Path, a: StoredTensor, b: StoredTensor, expected: str) -> AdapterError:
    return AdapterError(
        f"{file}: '{a.name}' {a.shape} and '{b.name}' {b.shape} do not chain, expected {expected}"
    )
