"""Names of modules: from the path stored in an adapter file to (layer, module).

A stored path such as ``base_model.model.model.layers.3.self_attn.q_proj`` says three things: where
the stack of layers is, which layer, and which module of it. Comparisons are made module by module
over the layers, so the key is ``(3, "self_attn.q_proj")``. It follows from the path alone, so that
adapters of any parts of one model agree. The rule:

1. Wrappers say nothing about the model and are dropped wherever they stand: `WRAPPERS`, and
   ``base_model.model`` (PEFT's own), repeated or in the middle.
2. The layer is the first part of the path that is a number between other parts, whatever the part
   before it, its container, is called. Deeper numbers (experts, T5's inner ``layer.0``) stay in the
   module's name, and so does one at the end (``classifier.0`` is a module, in no layer).
3. What stands before the container, the prefix, is dropped as far as it only names the backbone or
   the language model, which releases of one architecture call and nest differently: `_PLAIN`
   anywhere, `_BACKBONES` in front. A tower's own nesting goes too: ``vision_tower.vision_model``.
   Everything else stays in front of the module, so that an encoder and a decoder, or a text and a
   vision tower, never meet: ``decoder.block.3.layer.0.SelfAttention.q`` is
   ``(3, "decoder.layer.0.SelfAttention.q")``.
4. The container's name stays too, so that two stacks side by side never meet
   (``single_transformer_blocks.3.attn.to_q`` is ``(3, "single_transformer_blocks.attn.to_q")``),
   except where it is what the families of text models call their only stack: `_only_stack`.
5. Without a layer number the layer is −1 and the module is the path after its backbone names:
   ``model.embed_tokens`` is ``(-1, "embed_tokens")``.

Names flattened with underscores (`parse_flat_name`) have the first number between other parts as
their layer likewise; all else of them stays.

Dropping follows naming habits. Where it would make one stack of two within one adapter
(``bert.encoder.layer`` beside ``roberta.encoder.layer``), both keep their whole names
(`module_keys`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from jaxtask.errors import AdapterError

# Put around a model, or around modules of it, by torch (DataParallel, compile, FSDP, activation
# checkpoints), Lightning and TRL.
WRAPPERS = frozenset(
    {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
    | {"_forward_module", "pretrained_model"}
)
_PLAIN = frozenset({"model", "transformer", "language_model", "llm"})
# Dropped only in front: a second one (EncoderDecoderModel's `decoder.bert`) may distinguish.
# fmt: off
_BACKBONES = frozenset({
    "albert", "backbone", "bart", "beit", "bert", "biogpt", "camembert", "canine", "clap", "clip",
    "convbert", "convnext", "convnextv2", "data2vec_audio", "data2vec_text", "data2vec_vision",
    "deberta", "deit", "dinov2", "dinov2_with_registers", "distilbert", "electra", "ernie", "esm",
    "flava", "fnet", "funnel", "gpt_neox", "hubert", "ibert", "layoutlm", "layoutlmv2",
    "layoutlmv3", "led", "lilt", "longformer", "luke", "markuplm", "mobilebert", "mpnet", "mra",
    "nezha", "nomic_bert", "nystromformer", "opt", "rembert", "roberta", "roberta_prelayernorm",
    "roc_bert", "roformer", "rwkv", "segformer", "sew", "sew_d", "siglip", "splinter",
    "squeezebert", "swin", "swinv2", "text_model", "thinker", "unispeech", "unispeech_sat",
    "videomae", "vilt", "vit", "vit_mae", "wav2vec2", "wav2vec2_bert", "wav2vec2_conformer",
    "wavlm", "xlm_roberta", "xmod", "yoso",
})
# fmt: on
_TOWERS = frozenset({"audio_tower", "image_tower", "video_tower", "vision_tower"})
# Longer numbers and such as 07 are parts of names: two spellings must not be one layer.
_NUMBER = re.compile(r"0|[1-9][0-9]{0,5}")
_FLAT = re.compile(r"(.+?)_(0|[1-9][0-9]{0,5})_(.+)")
# Where flattened names show their container apart.
_FLAT_CONTAINERS = sorted(
    {"layers", "layer", "h", "block", "blocks", "resblocks", "transformer_blocks"}
    | {"single_transformer_blocks", "down_blocks", "up_blocks"},
    key=len,
    reverse=True,
)


class ModuleKey(NamedTuple):
    """Where a module is. Keys are ordered by layer, then by module name.

    Attributes:
        layer: Layer number, from 0; −1 for a module outside any layer.
        module: Its name within the layer, for instance ``"self_attn.q_proj"``.

    """

    layer: int
    module: str


# Left to itself, `help` calls each an "Alias for field number …".
for _field in ModuleKey._fields:
    getattr(ModuleKey, _field).__doc__ = None


def strip_wrappers(path: str) -> str:
    """`path` as PEFT itself knew the module, whatever was put around or into the model since.

    This is the name that the regular expressions of `rank_pattern` and `alpha_pattern` see: what
    follows the last ``base_model.model.``, without wrappers.
    """
    tokens = _unwrapped(path)
    for i in reversed(range(len(tokens) - 1)):
        if tokens[i : i + 2] == ["base_model", "model"]:
            return ".".join(tokens[i + 2 :])
    return ".".join(tokens)


def parse_module_path(path: str) -> ModuleKey:
    """The key of a stored module path, with or without its ``base_model.model.`` prefix.

    ``base_model.model.model.layers.3.self_attn.q_proj`` and ``layers.3.self_attn.q_proj`` are both
    ``ModuleKey(3, "self_attn.q_proj")``. The module docstring has the rule.

    Raises:
        AdapterError: For a path that is not dotted names (empty, or with an empty part).

    """
    return _split(path).key()


def parse_flat_name(path: str) -> ModuleKey:
    """The key of a name flattened with underscores; dotted names follow `parse_module_path`.

    ``lora_te_text_model_encoder_layers_3_mlp_fc1`` →
    ``(3, "lora_te_text_model_encoder.layers.mlp_fc1")``.
    """
    if "." in path:
        return parse_module_path(path)
    path = path.replace("_orig_mod_", "")
    found = _FLAT.fullmatch(path)
    if found is None:
        return ModuleKey(-1, path)
    head, number, rest = found.groups()
    for container in _FLAT_CONTAINERS:
        if head.endswith(f"_{container}"):
            head = f"{head.removesuffix(f'_{container}')}.{container}"
            break
    return ModuleKey(int(number), f"{head}.{rest}")


def module_keys(paths: Iterable[str]) -> dict[str, ModuleKey]:
    """The keys of one adapter's module paths, dotted.

    As `parse_module_path` has them; stacks, or modules in no layer, that would become one keep
    their whole names.

    Raises:
        AdapterError: As `parse_module_path`.

    """
    split = {path: _split(path) for path in paths}
    places: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for parts in split.values():
        places.setdefault(parts.short_place, set()).add(parts.place)
    return {
        path: parts.key(whole=len(places[parts.short_place]) > 1) for path, parts in split.items()
    }


class _Parts(NamedTuple):
    """A path taken apart.

    Attributes:
        prefix: Without wrappers; with the container.
        short: What of `prefix` stays in the module's name.

    """

    prefix: tuple[str, ...]
    short: tuple[str, ...]
    layer: int
    rest: tuple[str, ...]

    def key(self, whole: bool = False) -> ModuleKey:
        prefix = self.prefix if whole else self.short
        return ModuleKey(self.layer, ".".join((*prefix, *self.rest)))

    @property
    def place(self) -> tuple[str, ...]:
        """Which stack; for a module in no layer, which module."""
        return self.prefix if self.layer >= 0 else (*self.prefix, "", *self.rest)

    @property
    def short_place(self) -> tuple[str, ...]:
        """The same after the names that say nothing."""
        return self.short if self.layer >= 0 else (*self.short, "", *self.rest)


def _split(path: str) -> _Parts:
    if not isinstance(path, str) or not path or "" in path.split("."):
        raise AdapterError(f"{path!r} is not a module path: expected names joined by single dots")
    tokens = _unwrapped(path)
    for i in reversed(range(len(tokens) - 1)):
        if tokens[i : i + 2] == ["base_model", "model"]:
            del tokens[i : i + 2]
    # SentenceTransformer's first module, and what it calls the model there.
    if len(tokens) > 2 and tokens[0] == "0" and tokens[1] in ("auto_model", "model"):
        tokens = tokens[2:]
    if not tokens:
        raise AdapterError(f"{path!r} names no module: nothing is left without its prefix")
    for i in range(1, len(tokens) - 1):
        if _NUMBER.fullmatch(tokens[i]):
            prefix, container = tokens[: i - 1], tokens[i - 1]
            short = _without_backbone(prefix)
            if not _only_stack(prefix[-1] if prefix else "", container):
                short.append(container)
            elif container == "layer" and short and short[-1] == "encoder":
                short.pop()
            rest = tuple(tokens[i + 1 :])
            return _Parts((*prefix, container), tuple(short), int(tokens[i]), rest)
    start = 0
    while start < len(tokens) - 1 and tokens[start] in _PLAIN:
        start += 1
    if start < len(tokens) - 1 and tokens[start] in _BACKBONES:
        start += 1
    return _Parts(tuple(tokens[:start]), (), -1, tuple(tokens[start:]))


def _unwrapped(path: str) -> list[str]:
    """The parts of `path` that are no wrappers; all of them if nothing else is there."""
    tokens = path.split(".")
    return [token for token in tokens if token not in WRAPPERS] or tokens


def _without_backbone(prefix: list[str]) -> list[str]:
    """What stands before a container, without what only names the backbone."""
    kept = [token for token in prefix if token not in _PLAIN]
    if kept and kept[0] in _BACKBONES:
        kept = kept[1:]
    if kept and kept[0] in _TOWERS:
        kept = [kept[0], *(t for t in kept[1:] if t not in ("vision_model", "encoder"))]
    return kept


def _only_stack(before: str, container: str) -> bool:
    """Whether models that have a container of this name there have no other stack beside it."""
    if container == "layers":
        return True
    return before in {
        "h": ("", "transformer"),  # GPT-2, Falcon, BLOOM
        "layer": ("encoder", "transformer"),  # the BERT family; DistilBERT, XLNet
        "block": ("encoder", "decoder"),  # T5
        "blocks": ("visual",),  # Qwen-VL's images
        "resblocks": ("transformer",),  # OpenCLIP
    }.get(container, ())
