"""What a tensor's name in a PEFT file says: a factor of B·A, something else, or nothing known."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from jaxtask.adapters.formats.other_kinds import tensor_kind
from jaxtask.adapters.formats.peft_config import AdapterConfig
from jaxtask.adapters.formats.peft_fields import Refusal
from jaxtask.adapters.tensors.stored import StoredTensor
from jaxtask.errors import AdapterError

_FACTORS = frozenset({"lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_E"})
_LEFT_OUT = {
    "ranknum": "AdaLoRA's initial rank, which the config gives too",
    "lora_velora_embed": "VeLoRA's compression of activations in training, not part of B·A",
}
_REFUSED_TENSORS = {
    "lora_magnitude_vector": Refusal(
        "lora_magnitude_vector (DoRA)", "DoRA rescales the rows of W + s·B·A", True
    ),
    "lora_diag": Refusal("lora_diag (KaSA)", "KaSA puts a diagonal between B and A", True),
    "lora_monteclora_sampler": Refusal(
        "lora_monteclora_sampler (MonteCLoRA)", "MonteCLoRA adds sampled factors to A", True
    ),
}
# What transformers calls the matrices of a vocabulary, which PEFT saves whole when it was resized
# or an embedding is adapted, and the heads of classification, tagging and question answering,
# which PEFT saves for these tasks without a word in the config.
_EMBEDDINGS = frozenset(
    {
        "embed_tokens",
        "lm_head",
        "wte",
        "wpe",
        "word_embeddings",
        "position_embeddings",
        "token_type_embeddings",
        "embed_positions",
        "shared",
        "embed_in",
        "embed_out",
    }
)
_HEADS = frozenset(
    {
        "score",
        "classifier",
        "classifiers",
        "pre_classifier",
        "qa_outputs",
        "classification_head",
        "start_logits",
        "end_logits",
        "sequence_summary",
        "logits_proj",
    }
)
_HEADED_TASKS = frozenset({"SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"})


@dataclass
class SortedNames:
    """The tensors of one file, sorted by what they are."""

    # module path → "lora_A", … → tensor
    factors: dict[str, dict[str, StoredTensor]] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)


def sort_names(file: Path, tensors: dict[str, StoredTensor], config: AdapterConfig) -> SortedNames:
    """Sorts every tensor of a PEFT file.

    Nothing is dropped: a name is a factor, excluded with its reason, or refused. Names may be those
    of a saved adapter (``….lora_A.weight``) or of a live state dict
    (``….lora_A.<adapter>.weight``), then of one adapter.

    Raises:
        AdapterError: For an unknown name.

    """
    result = SortedNames()
    adapters: set[str] = set()
    others: list[str] = []
    for name, tensor in tensors.items():
        split = _split(name)
        if split is None or _lora_in_saved(name, config):
            others.append(name)
            continue
        path, kind, tail = split
        if kind in _REFUSED_TENSORS:
            result.refusals.append(_REFUSED_TENSORS[kind])
            result.excluded[name] = _REFUSED_TENSORS[kind].what
        elif kind in _LEFT_OUT:
            result.excluded[name] = _LEFT_OUT[kind]
        elif tail[-1:] == ["bias"] and len(tail) <= 2:
            result.excluded[name] = "the bias of lora_B (lora_bias), not part of B·A"
        elif tail in ([], ["weight"]) or (len(tail) <= 2 and tail[1:] in ([], ["weight"])):
            # Without a name it is the adapter that PEFT saved; others beside it are others.
            adapters.add(tail[0] if tail and tail != ["weight"] else "")
            found = result.factors.setdefault(path, {})
            if len(adapters) > 1:
                named = " and ".join(
                    f"{one!r:.80}" if one else "(unnamed)" for one in sorted(adapters)
                )
                raise AdapterError(
                    f"{file}: holds the adapters {named}, expected one; save each on its own (PEFT "
                    "0.18 writes an adapter into the file of another whose name begins its own)"
                )
            if kind in found:
                raise AdapterError(
                    f"{file}: '{found[kind].name}' and '{name}' are both {kind} of one module"
                )
            found[kind] = tensor
        else:
            raise AdapterError(f"{file}: tensor '{name}' has an unknown ending after '{kind}'")
    for name in others:
        result.excluded[name] = _other(file, name, config, live=bool(adapters - {""}))
    return result


def _split(name: str) -> tuple[str, str, list[str]] | None:
    """The module path, the kind of adapter tensor, and what follows it; None for any other name."""
    tokens = name.split(".")
    if not _REFUSED_TENSORS.keys().isdisjoint(tokens):
        i = next(i for i, token in enumerate(tokens) if token in _REFUSED_TENSORS)
        return ".".join(tokens[:i]), tokens[i], tokens[i + 1 :]
    for i in reversed(range(1, len(tokens))):
        if tokens[i] in _FACTORS or tokens[i] in _LEFT_OUT:
            return ".".join(tokens[:i]), tokens[i], tokens[i + 1 :]
    return None


def _lora_in_saved(name: str, config: AdapterConfig) -> bool:
    """Whether a name looks like a factor's only by the name of a module that is saved whole."""
    if not config.modules_to_save:
        return False
    rest = _without_saved(name, config)
    return rest != f".{name}." and _split(rest.strip(".")) is None


def _without_saved(name: str, config: AdapterConfig) -> str:
    """The name, dotted at both ends, without the names of modules that are saved whole."""
    dotted = f".{name}."
    for module in config.modules_to_save:
        if module not in _FACTORS:  # else nothing tells the two apart
            dotted = dotted.replace(f".{module}.", ".")
    return dotted


def _other(file: Path, name: str, config: AdapterConfig, *, live: bool) -> str:
    """Why a tensor that is no adapter tensor is left out; raises `AdapterError` if unknown."""
    dotted = f".{name}."
    parts = name.split(".")
    if ".lora" in _without_saved(name, config):
        raise AdapterError(f"{file}: tensor '{name}' has a name this reader does not know")
    if "trainable_tokens" in name or "token_adapter" in parts:
        return "single trained embedding rows (trainable tokens) are not part of B·A"
    if "modules_to_save" in parts or any(f".{m}." in dotted for m in config.modules_to_save):
        return "trained in full (modules_to_save), not part of B·A"
    if live or "original_module" in parts:
        return "a weight of the model itself, not of the adapter"
    if parts[-1] in ("weight", "bias"):
        if parts[-2:-1] == ["base_layer"]:
            return "the base model's own tensor, saved beside the adapter"
        if parts[-2:-1] and parts[-2] in _EMBEDDINGS:
            return "a whole embedding matrix or its bias, saved beside the adapter, not part of B·A"
        if _is_head(parts[:-1], config):
            return "a task head trained in full, not part of B·A"
    if parts[-1] == "bias" and config.bias != "none":
        return f"a trained bias (bias = '{config.bias}'), not part of B·A"
    if kind := tensor_kind(name):
        raise AdapterError(f"{file}: tensor '{name}' belongs to {kind}")
    raise AdapterError(
        f"{file}: tensor '{name}' is neither a LoRA factor nor anything that {config.file.name} "
        "announces (modules_to_save, bias), nor an embedding or a task head, so it cannot be left "
        "out safely"
    )


def _is_head(path: list[str], config: AdapterConfig) -> bool:
    """Whether a module is a task's head: by its name, and in no numbered layer of the model.

    In a task that has a head, PEFT names it only in a live config, so its usual names will do; a
    weight of a numbered layer may be one that was trained in full, which changes ΔW.
    """
    heads = [i for i, part in enumerate(path) if part in _HEADS]
    if config.fields.get("task_type") in _HEADED_TASKS:
        heads += [i for i, part in enumerate(path) if part.endswith(("classifier", "_head"))]
    return bool(heads) and not any(part.isdigit() for part in path[: min(heads)])
