"""Which matrices of two checkpoints are compared, and why the others are not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from jaxtask.adapters import ModuleKey, parse_module_path
from jaxtask.adapters.keys import module_keys
from jaxtask.adapters.tensors.stored import StoredTensor
from jaxtask.errors import AdapterError
from jaxtask.extract.checkpoint import Checkpoint
from jaxtask.patterns import Patterns

ALL_LINEAR = "all-linear"
Kind = Literal["linear", "conv1d", "embedding"]

# Models that use transformers' Conv1D, which stores (in, out), and the names of such modules. Other
# models have linear layers of the same names.
_CONV1D_MODELS = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})
_CONV1D_NAMES = frozenset({"c_attn", "c_proj", "c_fc", "q_attn"})
# A heuristic over naming habits: files do not say what is an embedding.
_EMBEDDING = re.compile(
    r"(\w+_)?embeddings?|embed_(?!out)\w+|wte|wpe|shared|relative_attention_bias"
)
# Quantised weights as GPTQ, AWQ and compressed-tensors name them; others are told by their type.
_PACKED = frozenset({"qweight", "weight_packed"})
_SHOWN = 3


@dataclass(frozen=True)
class MatrixPair:
    """One matrix of both checkpoints.

    Attributes:
        path: The module's, such as ``model.layers.0.self_attn.q_proj``.

    """

    path: str
    kind: Kind
    base: StoredTensor
    tuned: StoredTensor

    @property
    def bytes(self) -> int:
        """What reading both takes."""
        sizes = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
        rows, columns = self.base.shape
        return rows * columns * (sizes[self.base.dtype] + sizes[self.tuned.dtype])


def choose(
    base: Checkpoint,
    tuned: Checkpoint,
    targets: str | Sequence[str] | None,
    outside_layers: bool,
) -> tuple[list[MatrixPair], dict[str, str]]:
    """The matrices to compare, and the reason for every tensor that is left out, by its name.

    Raises:
        AdapterError: For targets that match nothing, tensors that only one checkpoint has, shapes
            that differ, and stored types whose values are not known.

    """
    shapes = {n: t.shape for c in (base, tuned) for n, t in c.tensors.items()}
    packed = [name for name in shapes if name.rpartition(".")[2] in _PACKED]
    if packed:
        source = (base if packed[0] in base.tensors else tuned).source
        raise AdapterError(
            f"{source}: tensor '{packed[0]}' holds quantised weights, expected those of a "
            "checkpoint in floating point: save it dequantised"
        )
    left_out = {n: why for n, shape in shapes.items() if (why := _no_matrix(n, shape))}
    modules = {n.removesuffix(".weight"): n for n in shapes if n not in left_out}
    chosen = _targeted(sorted(modules), targets, outside_layers)
    for module, name in modules.items():
        if module not in chosen:
            left_out[name] = _why_not(targets)
    names = [modules[module] for module in sorted(chosen)]
    _check_same(base, tuned, names)
    _check_keys(tuned, sorted(chosen))
    return [_pair(base, tuned, name) for name in names], left_out


def _why_not(targets: str | Sequence[str] | None) -> str:
    """Why a matrix is not among the chosen."""
    if targets is None or targets == ALL_LINEAR:
        return "outside any layer (see outside_layers)"
    return "not among the targets"


def summarised(left_out: dict[str, str]) -> dict[str, str]:
    """The same with one entry for many layers: ``model.layers.0-29.input_layernorm.weight``."""
    groups: dict[tuple[str, str], list[int]] = {}
    entries: dict[str, str] = {}
    for name, why in left_out.items():
        layer = re.search(r"(?<=\.)\d+(?=\.)", name)
        if layer is None:
            entries[name] = why
        else:
            pattern = f"{name[: layer.start()]}{{}}{name[layer.end() :]}"
            groups.setdefault((pattern, why), []).append(int(layer[0]))
    for (pattern, why), layers in groups.items():
        entries[pattern.replace("{}", _ranges(sorted(layers)), 1)] = why
    return dict(sorted(entries.items()))


def _no_matrix(name: str, shape: tuple[int, ...]) -> str | None:
    if len(shape) != 2:
        return f"{len(shape)} dimension{'s' * (len(shape) != 1)}, no matrix"
    if not name.endswith(".weight"):
        return "not the weight of a module"
    try:
        parse_module_path(name.removesuffix(".weight"))
    except AdapterError:
        return "not a name of a module"
    return None


def _targeted(
    modules: list[str], targets: str | Sequence[str] | None, outside_layers: bool
) -> set[str]:
    """The modules that are meant: as LoRA's targets of training, by name or regular expression."""
    if targets is None or targets == ALL_LINEAR:
        found = {m for m in modules if outside_layers or parse_module_path(m).layer >= 0}
        if not found:
            raise AdapterError(
                "the checkpoints have no matrix in a layer"
                f"{'' if outside_layers else ' (outside_layers=True takes what is in none)'}; "
                f"their matrices are {_some(modules)}"
            )
        return found
    if outside_layers:
        raise AdapterError("give targets or outside_layers: targets alone say what is taken")
    there = f"the checkpoints' matrices are {_some(modules)}"
    return Patterns(AdapterError).chosen(targets, modules, "target", there)


def _check_same(base: Checkpoint, tuned: Checkpoint, names: list[str]) -> None:
    """One set of names and shapes."""
    lacking = [
        f"{len(only)} that only {one.source} has ({_some(only)})"
        for one, other in ((base, tuned), (tuned, base))
        if (only := [n for n in names if n in one.tensors and n not in other.tensors])
    ]
    if lacking:
        raise AdapterError(
            f"the checkpoints differ in their tensors: {', and '.join(lacking)}. Fused or renamed "
            "tensors are not matched: save both in one layout, or choose others (targets)"
        )
    for name in names:
        shapes = base.tensors[name].shape, tuned.tensors[name].shape
        if shapes[0] != shapes[1]:
            raise AdapterError(
                f"tensor '{name}' is {shapes[0]} in {base.source} but {shapes[1]} in "
                f"{tuned.source}: expected one shape"
            )
        if 0 in shapes[0]:
            raise AdapterError(f"{base.source}: tensor '{name}' is empty, {shapes[0]}")
        for checkpoint in (base, tuned):
            checkpoint.tensors[name].widened  # noqa: B018  (refuses types without known values)


def _check_keys(tuned: Checkpoint, paths: Sequence[str]) -> None:
    """No two modules of one key. The keys of those that differ are no more alike than these."""
    seen: dict[ModuleKey, str] = {}
    for path, key in module_keys(paths).items():
        if key in seen:
            raise AdapterError(
                f"{tuned.source}: the modules '{seen[key]}' and '{path}' both read as "
                f"{tuple(key)}; they cannot be told apart"
            )
        seen[key] = path


def _pair(base: Checkpoint, tuned: Checkpoint, name: str) -> MatrixPair:
    path = name.removesuffix(".weight")
    last = path.rpartition(".")[2]
    kind: Kind = "embedding" if _EMBEDDING.fullmatch(last) else "linear"
    if last in _CONV1D_NAMES:
        model = tuned.model_type or base.model_type
        if model is None:
            raise AdapterError(
                f"'{name}' may be stored as (in, out) or (out, in), which the model type tells: "
                f"expected config.json beside the weights of {base.source} or {tuned.source}"
            )
        kind = "conv1d" if model in _CONV1D_MODELS else "linear"
    return MatrixPair(path, kind, base.tensors[name], tuned.tensors[name])


def _some(names: Sequence[str]) -> str:
    """A few of them, one of each kind over the layers."""
    kinds = list(dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name) for name in names))
    return ", ".join(kinds[:_SHOWN]) + (", …" if len(kinds) > _SHOWN else "") or "none"


def _ranges(numbers: list[int]) -> str:
    """0-3,7 of 0, 1, 2, 3, 7."""
    breaks = [0, *(n for n, (a, b) in enumerate(pairwise(numbers), 1) if b != a + 1), len(numbers)]
    runs = [numbers[a:b] for a, b in pairwise(breaks)]
    return ",".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)
