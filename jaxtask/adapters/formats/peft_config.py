"""`adapter_config.json`: the scaling of every module, and whether ΔW is s·B·A at all."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtask.adapters.formats.peft_fields import (
    BASE_CHANGING_INITS,
    HARMLESS,
    OTHER_TYPES,
    PLAIN_INITS,
    REFUSED,
    USED,
    Refusal,
    of_a_run,
)
from jaxtask.errors import AdapterError, shown
from jaxtask.patterns import Patterns
from jaxtask.text_files import read_object


def settle(refusals: Sequence[Refusal], directional: bool, file: Path) -> str | None:
    """None when there is nothing to refuse, else the label of a directional reading.

    Raises:
        AdapterError: `directional` is not set, or s·B·A would not even be a direction; names the
            first reason.

    """
    for refusal in refusals:
        if not directional or not refusal.takable:
            offer = (
                " (directional=True takes s·B·A as it stands, labelled approximate)"
                if refusal.takable
                else ""
            )
            raise AdapterError(f"{file}: {refusal.what} is refused: {refusal.why}{offer}")
    if not refusals:
        return None
    reasons = "; ".join(f"{r.what}: {r.why}" for r in dict.fromkeys(refusals))
    return f"s·B·A taken as the direction only ({reasons})"


CONFIG_NAME = "adapter_config.json"


@dataclass(frozen=True)
class AdapterConfig:
    """What the reader needs of a config, checked. Lists are as they stand in the file.

    Attributes:
        fields: The fields that are set, for the provenance.

    """

    file: Path
    adalora: bool
    base_model: str | None
    r: int
    alpha: float
    rslora: bool
    rank_pattern: dict[str, float]
    alpha_pattern: dict[str, float]
    init_r: int
    bias: str
    modules_to_save: tuple[str, ...]
    target_modules: str | tuple[str, ...]
    target_parameters: tuple[str, ...]
    peft_version: str | None
    fields: dict[str, Any]
    excluded: dict[str, str]
    notes: tuple[str, ...]
    refusals: tuple[Refusal, ...]
    patterns: Patterns

    def rank_of(self, name: str) -> int:
        """The rank the config gives to the module `name` (its name within the base model)."""
        what = f"{self.file}: rank_pattern"
        return int(first_match(self.rank_pattern, name, self.r, self.patterns, what))

    def scaling(self, name: str, rank: int) -> float:
        """The s of ΔW = s·B·A for a module of that actual rank: α/r, or α/√r with rsLoRA."""
        what = f"{self.file}: alpha_pattern"
        alpha = float(first_match(self.alpha_pattern, name, self.alpha, self.patterns, what))
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank


def first_match(
    pattern: Mapping[str, float], name: str, default: float, patterns: Patterns, what: str
) -> float:
    """The value of the first key, in the order of the file, that matches the end of `name`.

    A key is a regular expression for the last parts of a module's name, or with ``^`` for all of
    it. The first match wins, also over a longer or an exact one: that is PEFT's own rule.
    """
    for key, value in pattern.items():
        if patterns.matches_end(key, name, f"{what}[{key!r:.80}]"):
            return value
    return default


# Of a field's name: far above all of PEFT's.
_LONGEST = 200


def read_config(file: Path) -> AdapterConfig:
    """Reads and checks one config.

    Raises:
        AdapterError: As `check_config`, or the file cannot be read.

    """
    return check_config(file, read_object(file, AdapterError))


def check_config(file: Path, config: dict[str, Any]) -> AdapterConfig:
    """Checks the fields of one config, which `file` holds.

    Kinds of LoRA whose ΔW is not s·B·A are returned in `refusals`; the caller decides.

    Raises:
        AdapterError: For a file that is not a LoRA or AdaLoRA config.

    """
    if long := next((name for name in config if len(name) > _LONGEST), None):
        raise AdapterError(f"{file}: no field has a name such as {shown(long, 80)}")
    kind = config.get("peft_type")
    if kind not in ("LORA", "ADALORA"):
        why = OTHER_TYPES.get(str(kind), "its update is not s·B·A")
        raise AdapterError(
            f"{file}: peft_type is {shown(kind, 100)}, expected 'LORA' or 'ADALORA': {why}"
        )
    adalora = kind == "ADALORA"
    excluded, notes, refusals = _decide(config)
    if adalora:
        notes.append(
            "AdaLoRA: B·(A∘E)·α/(init_r + 1e-5), with A∘E rounded to A's type; use_rslora and "
            "patterns have no part in it."
        )
    patterns = Patterns(AdapterError)
    init_r = _integer(file, config, "init_r") if adalora else 0
    return AdapterConfig(
        file=file,
        adalora=adalora,
        base_model=_text(file, config, "base_model_name_or_path"),
        r=init_r if adalora else _integer(file, config, "r"),
        alpha=_number(file, "lora_alpha", config.get("lora_alpha")),
        rslora=bool(config.get("use_rslora")),
        # AdaLoRA's rank_pattern is a mask of kept ranks, already applied to the stored tensors.
        rank_pattern={} if adalora else _pattern(file, config, "rank_pattern", patterns),
        alpha_pattern={} if adalora else _pattern(file, config, "alpha_pattern", patterns),
        init_r=init_r,
        bias=str(config.get("bias") or "none"),
        modules_to_save=_names(file, config, "modules_to_save"),
        target_modules=_targets(file, config),
        target_parameters=_names(file, config, "target_parameters"),
        peft_version=_text(file, config, "peft_version"),
        fields={k: v for k, v in config.items() if v and not (adalora and k == "rank_pattern")},
        excluded=excluded,
        notes=tuple(notes),
        refusals=tuple(refusals),
        patterns=patterns,
    )


def _decide(config: dict[str, Any]) -> tuple[dict[str, str], list[str], list[Refusal]]:
    """Goes through the fields that are set: what is left out, noted, and refused."""
    excluded: dict[str, str] = {}
    notes: list[str] = []
    refusals: list[Refusal] = []
    of_runs = [name for name, value in config.items() if value and _noted(name)]
    if of_runs:
        shown = ", ".join(f"{name!r:.60}" for name in of_runs[:8])
        more = f" and {len(of_runs) - 8} more" if len(of_runs) > 8 else ""
        notes.append(f"fields of another trainer, without effect on ΔW: {shown}{more}.")
    for name, value in config.items():
        if not value or name in HARMLESS:
            continue
        if name in REFUSED:
            refusals.append(REFUSED[name])
        elif name not in USED and not _noted(name):
            found = json.dumps(value)
            found = found if len(found) <= 60 else found[:57] + "..."
            why = "a field this reader does not know may change what ΔW is"
            refusals.append(Refusal(f"{name} = {found}", why, True))
    if config.get("bias") not in (None, "none"):
        excluded["bias"] = f"trained biases (bias = {config['bias']!r}) are not part of B·A"
    if config.get("lora_bias"):
        excluded["lora_bias"] = "the bias of lora_B is not part of B·A"
    if config.get("modules_to_save"):
        excluded["modules_to_save"] = "modules trained in full have no B·A"
    if config.get("trainable_token_indices"):
        excluded["trainable_token_indices"] = "single trained embedding rows are not part of B·A"
    if config.get("alora_invocation_tokens"):
        notes.append("aLoRA: B·A is applied from the invocation tokens on, not to every token.")
    if config.get("ensure_weight_tying"):
        notes.append("ensure_weight_tying: tied layers share one adapter.")
    given = config.get("init_lora_weights")
    init = "true" if given is None else str(given).lower()
    if init == "loftq":
        notes.append("LoftQ: the update belongs to a quantised base model.")
    family = re.sub(r"^pissa_niter_\d+$", "pissa", init)
    if family in BASE_CHANGING_INITS:
        why = (
            f"{BASE_CHANGING_INITS[family]} moves a part of the base weights into B·A, so B·A is "
            "not the change from the base model (save it converted: PEFT's save_pretrained with "
            "path_initial_model_for_weight_conversion)"
        )
        refusals.append(Refusal(f"init_lora_weights = '{init}'", why, True))
    elif family not in PLAIN_INITS:
        why = "an initialisation this reader does not know may change the base model"
        refusals.append(Refusal(f"init_lora_weights = '{init}'", why, True))
    return excluded, notes, refusals


def _noted(name: str) -> bool:
    """Whether a field is another trainer's word on its run, and has no meaning in PEFT."""
    return of_a_run(name) and name not in USED | HARMLESS and name not in REFUSED


def _number(file: Path, name: str, value: Any) -> float:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    # Whole numbers of JSON have no end, and beyond 10³⁰⁸ no float.
    if not plain or not abs(value) < sys.float_info.max:
        raise AdapterError(
            f"{file}: {name} is {_cut(value)}, expected a finite number for the scaling"
        )
    return value


def _cut(value: Any) -> str:
    """What was found, at a length that fits a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _integer(file: Path, config: dict[str, Any], name: str) -> int:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise AdapterError(f"{file}: {name} is {_cut(value)}, expected a positive whole number")
    return value


def _pattern(file: Path, config: dict[str, Any], name: str, patterns: Patterns) -> dict[str, float]:
    pattern = config.get(name) or {}
    if not isinstance(pattern, dict):
        raise AdapterError(f"{file}: {name} is {_cut(pattern)}, expected names with numbers")
    for key, value in pattern.items():
        patterns.check_end(key, f"{file}: the key {key!r:.80} of {name}")
        number = _number(file, f"{name}[{_cut(key)}]", value)
        if name == "rank_pattern" and (not 1 <= number < 2**31 or number != int(number)):
            raise AdapterError(
                f"{file}: {name}[{_cut(key)}] is {_cut(value)}, expected a positive rank"
            )
    return pattern


def _text(file: Path, config: dict[str, Any], name: str) -> str | None:
    value = config.get(name)
    if value is not None and not isinstance(value, str):
        raise AdapterError(f"{file}: {name} is {_cut(value)}, expected text")
    return value or None


def _names(file: Path, config: dict[str, Any], name: str) -> tuple[str, ...]:
    value = config.get(name) or ()
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise AdapterError(f"{file}: {name} is {_cut(value)}, expected a list of names")
    return tuple(value)


def _targets(file: Path, config: dict[str, Any]) -> str | tuple[str, ...]:
    value = config.get("target_modules")
    return value if isinstance(value, str) else _names(file, config, "target_modules")
