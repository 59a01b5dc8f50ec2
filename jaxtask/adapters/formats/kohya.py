"""Adapters of image models as kohya's scripts write them: one file, no config.

``<module>.lora_down.weight`` is A (r, in), ``<module>.lora_up.weight`` is B (out, r), convolutions
as kernels, and the scalar ``<module>.alpha`` gives the scaling α/r; without it the scaling is 1.
Module names are flattened with underscores
(``lora_te_text_model_encoder_layers_3_self_attn_q_proj``), so the first number gives the layer, and
everything else stays in the module's name.
"""

from __future__ import annotations

from pathlib import Path

from jaxtask.adapters.adapter import Adapter, collect_entries
from jaxtask.adapters.factors import MatrixFactor, ModuleEntry
from jaxtask.adapters.formats.other_kinds import tensor_kind
from jaxtask.adapters.formats.peft import check_chain, module_kind
from jaxtask.adapters.keys import parse_flat_name
from jaxtask.adapters.tensors.stored import StoredTensor
from jaxtask.errors import AdapterError

_DOWN, _UP, _ALPHA = ".lora_down.weight", ".lora_up.weight", ".alpha"


def is_kohya(tensors: dict[str, StoredTensor]) -> bool:
    """Whether any tensor has kohya's name of a factor."""
    return any(name.endswith((_DOWN, _UP)) for name in tensors)


def read_kohya(
    name: str, file: Path, tensors: dict[str, StoredTensor], metadata: dict[str, str]
) -> Adapter:
    """The adapter in `file`. Reads the alphas, no other tensor data.

    Raises:
        AdapterError: For a pair that is not complete and for every other kind of tensor.

    """
    pairs: dict[str, dict[str, StoredTensor]] = {}
    for tensor_name, tensor in tensors.items():
        for ending in (_DOWN, _UP, _ALPHA):
            if tensor_name.endswith(ending):
                pairs.setdefault(tensor_name.removesuffix(ending), {})[ending] = tensor
                break
        else:
            kind = tensor_kind(tensor_name)
            what = f"belongs to {kind}" if kind else "has a name this reader does not know"
            raise AdapterError(f"{file}: tensor '{tensor_name}' {what}")
    keyed, unscaled = [], 0
    for path, found in pairs.items():
        for ending in (_DOWN, _UP):
            if ending not in found:
                given = next(iter(found.values())).name
                raise AdapterError(f"{file}: holds '{given}' but not '{path}{ending}'")
        A, B = found[_DOWN], found[_UP]
        for tensor in (A, B):
            if len(tensor.shape) < 2 or 0 in tensor.shape:
                raise AdapterError(
                    f"{file}: '{tensor.name}' has shape {tensor.shape}, expected two dimensions or "
                    "more, none empty"
                )
            tensor.widened  # noqa: B018  (refuses a stored type that cannot be read)
        check_chain(file, A, B)
        unscaled += _ALPHA not in found
        scale = read_alpha(file, found[_ALPHA]) / A.shape[0] if _ALPHA in found else 1.0
        factors = MatrixFactor(B), MatrixFactor(A)
        entry = ModuleEntry(path, scale, *factors, kind=module_kind(A))
        keyed.append((parse_flat_name(path), entry))
    notes = [f"{unscaled} module(s) without alpha: scaling 1."] if unscaled else []
    provenance = {
        "source": str(file),
        "format": "kohya",
        "config": {k: v for k, v in metadata.items() if k in _METADATA},
        "excluded": {},
        "notes": notes,
        "approximate": None,
    }
    return Adapter(name, None, provenance, collect_entries(keyed, str(file)))


_METADATA = (
    "ss_sd_model_name",
    "ss_base_model_version",
    "ss_network_module",
    "ss_network_dim",
    "ss_network_alpha",
)


# Whole numbers are as good an alpha as any; true and false are none.
_WHOLE = frozenset({"I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8"})


def read_alpha(file: Path, tensor: StoredTensor) -> float:
    """The number in a scalar tensor.

    Raises:
        AdapterError: For any other tensor.

    """
    if tensor.shape not in ((), (1,)):
        raise AdapterError(f"{file}: '{tensor.name}' has shape {tensor.shape}, expected one number")
    if tensor.dtype not in _WHOLE:
        return float(tensor.read().reshape(-1)[0])
    return float(tensor.raw().reshape(-1)[0])
