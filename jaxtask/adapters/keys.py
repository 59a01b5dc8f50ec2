"""Names of modules: from the path stored in an adapter file to (layer, module).

A stored path such as ``base_model.model.model.layers.3.self_attn.q_proj`` says three things: where
the stack of layers is, which layer, and which module of it. Comparisons are made module by module
over the layers, so the key is ``(3, "self_attn.q_proj")``. The rule:

1. Wrappers that say nothing about the model are dropped: ``base_model.model.`` in front, and
   ``_orig_mod``, ``_fsdp_wrapped_module`` anywhere.
2. The first ``<container>.<number>`` in the path, where the container is one of `CONTAINERS`, gives
   the layer. Deeper numbers (experts, T5's inner ``layer.0``) stay in the module name.
3. What stands before the container is dropped as far as it only names the backbone (``model``,
   ``transformer``, ``roberta`` …, and a last ``encoder`` before a container called ``layer``, the
   BERT family's naming). Everything else stays in front of the module, so that an encoder and a
   decoder, or a text and a vision tower, never meet: ``decoder.block.3.layer.0.SelfAttention.q`` is
   ``(3, "decoder.layer.0.SelfAttention.q")``.
4. Without a container the layer is −1 and the module is the path after its backbone names:
   ``model.embed_tokens`` is ``(-1, "embed_tokens")``.

The rule is a heuristic over naming habits; two paths of one adapter that it cannot tell apart are
an error where the adapter is read, never a silent overwrite.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtask.errors import AdapterError

CONTAINERS = frozenset(
    {"layers", "layer", "h", "block", "blocks", "resblocks", "transformer_blocks"}
    | {"single_transformer_blocks", "down_blocks", "up_blocks"}
)
# A model may hold two such stacks side by side with equally named modules (Flux, U-Nets): the
# container's name is then the only thing that tells them apart, so it stays in the module name.
_KEPT_CONTAINERS = frozenset(
    {"transformer_blocks", "single_transformer_blocks", "down_blocks", "up_blocks"}
)
_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# Dropped wherever they stand before the container: transformers has moved them around between
# versions (`language_model.model.layers`, `model.language_model.layers`).
_PLAIN = frozenset({"model", "transformer"})
# Dropped only in front: a second one (EncoderDecoderModel's `decoder.bert`) may distinguish.
# fmt: off
_BACKBONES = frozenset({
    "albert", "bart", "beit", "bert", "camembert", "clip", "data2vec_text", "deberta", "deit",
    "dinov2", "distilbert", "electra", "ernie", "esm", "gpt_neox", "hubert", "longformer",
    "luke", "mpnet", "nezha", "opt", "rembert", "roberta", "roberta_prelayernorm", "roformer",
    "vit", "vit_mae", "wav2vec2", "xlm_roberta", "xmod",
})
# fmt: on


class ModuleKey(NamedTuple):
    """Where a module is. Keys are ordered by layer, then by module name.

    `layer` is −1 for a module outside any layer; `module` is, for instance, ``"self_attn.q_proj"``.
    """

    layer: int
    module: str


def strip_wrappers(path: str) -> str:
    """`path` as the model itself names it: without ``base_model.model.`` and wrapper names.

    This is the name that the regular expressions of `rank_pattern` and `alpha_pattern` see.
    """
    path = ".".join(token for token in path.split(".") if token not in _WRAPPERS)
    return path.removeprefix("base_model.model.")


def parse_module_path(path: str) -> ModuleKey:
    """The key of a stored module path, with or without its ``base_model.model.`` prefix.

    ``base_model.model.model.layers.3.self_attn.q_proj`` and ``layers.3.self_attn.q_proj`` are both
    ``ModuleKey(3, "self_attn.q_proj")``. The module docstring has the rule.

    Raises `AdapterError` for a path that is not dotted names (empty, or with an empty part), and
    for one that ends in a layer number, which names a layer and no module in it.
    """
    if not isinstance(path, str) or not path or "" in path.split("."):
        raise AdapterError(f"{path!r} is not a module path: expected names joined by single dots.")
    tokens = strip_wrappers(path).split(".")
    if tokens == [""]:
        raise AdapterError(f"{path!r} names no module: nothing is left without its prefix.")
    for i in range(len(tokens) - 1):
        if tokens[i] in CONTAINERS and tokens[i + 1].isascii() and tokens[i + 1].isdigit():
            break
    else:
        return ModuleKey(-1, ".".join(_after_backbone(tokens)))
    container, layer, rest = tokens[i], int(tokens[i + 1]), tokens[i + 2 :]
    if not rest:
        raise AdapterError(f"{path!r} names layer {layer} but no module in it.")
    prefix = [token for token in tokens[:i] if token not in _PLAIN]
    if prefix and prefix[0] in _BACKBONES:
        prefix = prefix[1:]
    if container == "layer" and prefix and prefix[-1] == "encoder":
        prefix = prefix[:-1]
    if container in _KEPT_CONTAINERS:
        prefix.append(container)
    return ModuleKey(layer, ".".join(prefix + rest))


def _after_backbone(tokens: list[str]) -> list[str]:
    """`tokens` without the backbone names in front; the last token is always kept."""
    start = 0
    while start < len(tokens) - 1 and tokens[start] in _PLAIN:
        start += 1
    if start < len(tokens) - 1 and tokens[start] in _BACKBONES:
        start += 1
    return tokens[start:]
