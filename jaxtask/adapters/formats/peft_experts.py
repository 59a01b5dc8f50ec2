"""Adapters of parameters instead of modules (`target_parameters`): mixtures of experts.

The experts of one layer share one parameter (E, out, in), and PEFT stores their factors stacked in
one pair, ``experts.lora_A.weight`` (E·r, in) and ``experts.lora_B.weight`` (out, E·r). When a
module has two such parameters the wrappers are nested and the inner pair is called
``experts.base_layer.lora_A.weight``. The file never names the parameter: wrapping goes in the order
in which the module registered them, so the innermost is the first. The reader splits a pair into
one update an expert, and names it as an expert of its own would be: ``…mlp.experts.3.down_proj``.
So an adapter of one parameter and one of both can be compared. Where the order of nesting cannot be
known, the stored path with the expert's number is all there is: ``…mlp.experts.base_layer.3``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jaxtask.adapters.factors import ExpertFactor, MatrixFactor, ModuleEntry
from jaxtask.adapters.formats.peft_config import AdapterConfig
from jaxtask.adapters.keys import strip_wrappers
from jaxtask.adapters.tensors.stored import StoredTensor
from jaxtask.errors import AdapterError
from jaxtask.patterns import ends_with

_NESTED = re.compile(r"^(.*?)((?:\.base_layer)*)$")
# The order in which the expert modules of transformers register their parameters.
_REGISTERED = ("gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias")


@dataclass(frozen=True)
class ParameterTarget:
    """The parameter behind one stored path: its name, and the names the config may mean.

    `names` has several entries where the order of nesting cannot be known from the file.

    Attributes:
        path: Path of the module that holds it, as stored; with its nesting where that is all there
            is.

    """

    label: str
    names: tuple[str, ...]
    path: str

    def path_of(self, expert: int | None) -> str:
        """What one expert's update is called; None for a parameter that is a matrix itself."""
        number = [] if expert is None else [str(expert)]
        return ".".join([self.path, *number, *([self.label] if self.told else [])])

    @property
    def told(self) -> bool:
        """Whether the label is a part of the name: the weight of a module is the module's own."""
        return len(self.names) == 1 and self.label != "weight"


def split_nesting(path: str) -> tuple[str, int]:
    """The module's own path and how many ``base_layer`` follow it."""
    found = _NESTED.match(path)
    assert found is not None  # the pattern matches every single-line string
    return found[1], found[2].count("base_layer")


def find_parameters(paths: Iterable[str], config: AdapterConfig) -> dict[str, ParameterTarget]:
    """Which of the stored module paths are parameters by `target_parameters`, and which ones."""
    if not config.target_parameters:
        return {}
    levels: dict[str, dict[int, str]] = {}
    for path in paths:
        module, depth = split_nesting(path)
        levels.setdefault(module, {})[depth] = path
    found: dict[str, ParameterTarget] = {}
    for module, by_depth in levels.items():
        name = strip_wrappers(module)
        matching = [t.rpartition(".") for t in config.target_parameters]
        parameters = sorted(
            {p for prefix, _, p in matching if not prefix or ends_with(name, prefix)},
            key=lambda p: (_REGISTERED.index(p) if p in _REGISTERED else len(_REGISTERED), p),
        )
        # A target without a module part ("down_proj") could belong to any module: a plain module
        # that target_modules asks for is no parameter (PEFT allows only one of both).
        if not parameters or (len(by_depth) == 1 and _is_module_target(name, config)):
            continue
        known = len(parameters) == len(by_depth) and (
            len(parameters) == 1 or all(p in _REGISTERED for p in parameters)
        )
        for depth, path in by_depth.items():
            if known:
                label = parameters[len(by_depth) - 1 - depth]
                found[path] = ParameterTarget(label, (f"{name}.{label}",), module)
            else:
                names = tuple(f"{name}.{p}" for p in parameters)
                label = f"{'|'.join(parameters)} #{depth}"
                found[path] = ParameterTarget(label, names, path)
    return found


def _is_module_target(name: str, config: AdapterConfig) -> bool:
    targets = config.target_modules
    if isinstance(targets, str):
        if targets.lower() == "all-linear":
            return not name.endswith("experts")
        what = f"{config.file}: target_modules {targets!r:.80}"
        return config.patterns.fullmatch(targets, name, what)
    return any(ends_with(name, target) for target in targets)


def expert_entries(
    file: Path,
    target: ParameterTarget,
    pair: tuple[StoredTensor, StoredTensor],
    config: AdapterConfig,
) -> list[ModuleEntry]:
    """One entry an expert from a stacked pair (A, B). One expert alone has no number.

    Raises:
        AdapterError: The rank cannot be known or does not divide the stacked rows.

    """
    A, B = pair
    ranks = {config.rank_of(name) for name in target.names}
    if len(ranks) > 1:
        raise AdapterError(
            f"{file}: '{A.name}' belongs to one of the parameters {', '.join(target.names)}, which "
            f"the config gives the ranks {sorted(ranks)}; which one the file does not say"
        )
    rank = ranks.pop()
    if len(A.shape) != 2 or len(B.shape) != 2 or A.shape[0] != B.shape[1] or A.shape[0] % rank:
        raise AdapterError(
            f"{file}: '{A.name}' {A.shape} and '{B.name}' {B.shape} are no stacked experts of rank "
            f"{rank} (from the config): expected (experts·{rank}, in) and (out, experts·{rank})"
        )
    scales = {config.scaling(name, rank) for name in target.names}
    if len(scales) > 1:
        raise AdapterError(
            f"{file}: '{A.name}' belongs to one of the parameters {', '.join(target.names)}, which "
            f"alpha_pattern scales by {sorted(scales)}; which one the file does not say"
        )
    scale, experts = scales.pop(), A.shape[0] // rank
    label = None if target.label == "weight" else target.label
    if experts == 1:
        factors = MatrixFactor(B), MatrixFactor(A)
        return [ModuleEntry(target.path_of(None), scale, *factors, label, kind="expert")]
    return [
        ModuleEntry(
            target.path_of(expert),
            scale,
            ExpertFactor(B, "B", expert, experts),
            ExpertFactor(A, "A", expert, experts),
            label,
            kind="expert",
        )
        for expert in range(experts)
    ]
