"""The tokenizer inside a GGUF file, without torch (which transformers needs to read one).

Byte-level BPE only, as Llama 3 and SmolLM2 have it. A SentencePiece vocabulary in a GGUF file does
not say how it treats spaces; for those, a folder with the model's own tokenizer is asked for.
"""

from pathlib import Path
from typing import Any

from jaxtask.errors import DataError
from jaxtask.finetune.foreign import is_fault, said, silent
from jaxtask.finetune.models.gguf import open_gguf

_CONTROL, _USER_DEFINED = 3, 4  # token types
_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = ("default", "gpt-2", "smollm", "llama-bpe", "llama3")
_SPECIAL = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}


def read_gguf_tokenizer(file: Path) -> Any:
    """The tokenizer as one of transformers.

    Raises:
        DataError: The package `gguf` is not there, the file is no such file, or its tokenizer is of
            another kind.

    """
    fields = open_gguf(file, DataError).fields
    values = {
        name.removeprefix("tokenizer.").removeprefix("ggml."): value
        for name, value in fields.items()
        if name.startswith("tokenizer.")
    }
    kind, split = values.get("model"), values.get("pre", "default")
    if kind != "gpt2" or split not in _SPLITS:
        raise DataError(
            f"{file}: holds a tokenizer of the kind {kind!r:.80} ({split!s:.80}), expected 'gpt2' "
            f"({', '.join(_SPLITS)}); give a folder with the model's own tokenizer"
        )
    _check(values, file)
    tokens = values["tokens"]
    special = {name: tokens[values[key]] for name, key in _SPECIAL.items() if key in values}
    from transformers import PreTrainedTokenizerFast

    try:
        with silent():
            return PreTrainedTokenizerFast(
                tokenizer_object=_byte_level(values, split, special.get("bos_token")),
                chat_template=values.get("chat_template"),
                name_or_path=str(file),
                **special,
            )
    # The tokenizers library raises nothing more special, and panics outside Exception.
    except BaseException as error:
        if not is_fault(error):
            raise
        raise DataError(f"{file}: its tokenizer cannot be made: {said(error)}") from error


def _check(values: dict[str, Any], file: Path) -> None:
    """Raise `DataError` unless the tokenizer's fields are what they are in files that work."""
    tokens = values.get("tokens")

    def listed(name: str, kind: type, most: int | None = None) -> bool:
        found = values.get(name)
        right = isinstance(found, list) and all(isinstance(item, kind) for item in found)
        return right and (most is None or len(found) == most)  # type: ignore[arg-type]

    count = len(tokens) if isinstance(tokens, list) else 0
    rules = {
        "tokens": listed("tokens", str) and 0 < len(set(tokens or ())) == count,
        "merges": listed("merges", str) and all(m.count(" ") == 1 for m in values["merges"]),
        "token_type": values.get("token_type") is None or listed("token_type", int, count),
        "chat_template": isinstance(values.get("chat_template", ""), str),
        **{
            key: type(values[key]) is int and 0 <= values[key] < count
            for key in _SPECIAL.values()
            if key in values
        },
    }
    for name, right in rules.items():
        if not right:
            raise DataError(
                f"{file}: the tokenizer's {name} is missing or not what it is in such files"
            )


def _byte_level(values: dict[str, Any], split: str, begin: str | None) -> Any:
    """The tokenizer's own machinery."""
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
        processors,
    )

    tokens: list[str] = values["tokens"]
    vocabulary = {token: n for n, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ")) for merge in values["merges"]]
    llama_3 = split in ("llama-bpe", "llama3")
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=llama_3))
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not llama_3)
    # SmolLM's own tokenizer splits off digits before anything else. What transformers makes of its
    # GGUF files does not, which differs where several blanks precede a digit.
    first = {
        "smollm": pre_tokenizers.Digits(individual_digits=True),
        "llama-bpe": pre_tokenizers.Split(Regex(_LLAMA_3), "isolated"),
    }.get("llama-bpe" if llama_3 else split)
    steps = [bytes_] if first is None else [first, bytes_]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    types = values.get("token_type") or [1] * len(tokens)
    for token, kind in zip(tokens, types, strict=True):
        if kind in (_CONTROL, _USER_DEFINED):
            added = AddedToken(token, special=kind == _CONTROL, normalized=False)
            (tokenizer.add_special_tokens if kind == _CONTROL else tokenizer.add_tokens)([added])
    if begin is not None and values.get("add_bos_token", llama_3):
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, vocabulary[begin])]
        )
    return tokenizer
