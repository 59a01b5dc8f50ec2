"""The tokenizer inside a GGUF file, without torch (which transformers needs to read one).

Byte-level BPE only, as Llama 3 and SmolLM2 have it. A SentencePiece vocabulary in a GGUF file does
not say how it treats spaces; for those, a folder with the model's own tokenizer is asked for.
"""

from pathlib import Path
from typing import Any

from jaxtask.errors import DataError

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
    try:
        import gguf
    except ImportError as error:
        raise DataError(f"{file}: reading it needs the package: pip install gguf.") from error
    from transformers import PreTrainedTokenizerFast

    try:
        fields = {name: field.contents() for name, field in gguf.GGUFReader(file).fields.items()}
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise DataError(f"{file}: is missing, cut off or no GGUF file: {error}.") from error
    values = {
        name.removeprefix("tokenizer.").removeprefix("ggml."): value
        for name, value in fields.items()
        if name.startswith("tokenizer.")
    }
    kind, split = values.get("model"), values.get("pre", "default")
    if kind != "gpt2" or split not in _SPLITS:
        raise DataError(
            f"{file}: holds a tokenizer of the kind {kind!r} ({split}), expected 'gpt2' "
            f"({', '.join(_SPLITS)}); give a folder with the model's own tokenizer."
        )
    tokens = values["tokens"]
    special = {name: tokens[values[key]] for name, key in _SPECIAL.items() if key in values}
    return PreTrainedTokenizerFast(
        tokenizer_object=_byte_level(values, split, special.get("bos_token")),
        chat_template=values.get("chat_template"),
        name_or_path=str(file),
        **special,
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
