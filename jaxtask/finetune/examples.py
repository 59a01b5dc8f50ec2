"""From a task's texts to token ids, and which of them are learned.

Prompt and target are tokenised apart and joined as ids. No token can then hold the end of the one
and the start of the other, so the loss starts exactly at the target, and the ids of the prompt are
the ones that generation starts from. For base models a line break, which belongs to the prompt,
stands between the two. For chat templates the cut is where the rendered conversation goes on after
the rendered prompt, so what the template writes after an answer is learned too.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxtask.corpora.prompt import plain_prompt
from jaxtask.errors import DataError
from jaxtask.finetune.gguf_tokenizer import read_gguf_tokenizer
from jaxtask.finetune.task_data import Kind, Line, TaskData


@dataclass(frozen=True, eq=False)
class Example:
    """One example as token ids."""

    tokens: np.ndarray
    """[n] int32"""
    prompt: int
    """How many of the tokens are prompt, from the start: these are not learned."""
    line: Line
    types: np.ndarray | int = 0
    """Token types [n] int32; or one for all."""


@dataclass(frozen=True, eq=False)
class EncodedTask:
    """A task ready for batches."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    splits: dict[str, tuple[Example, ...]]
    dropped: dict[str, int]
    """How many examples of each split were longer than `max_len`."""
    sha256: dict[str, str]


def open_tokenizer(path: str | os.PathLike[str]) -> Any:
    """The tokenizer in a folder or the local cache, by `transformers.AutoTokenizer`, or in a GGUF.

    Nothing is downloaded.

    Raises:
        DataError: There is none.

    """
    if Path(path).suffix == ".gguf":
        return read_gguf_tokenizer(Path(path))
    # Imported here: it takes seconds.
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    # A damaged file can raise nearly anything.
    except Exception as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise DataError(f"{path}: no tokenizer can be read there: {reason}") from error
    # Where a vocabulary's files are missing, transformers makes a tokenizer that knows no text.
    if not _bare(tokenizer, ["a"])[0]:
        raise DataError(f"{path}: the tokenizer there has no vocabulary: it makes no token of 'a'.")
    return tokenizer


def decode(tokenizer: Any, tokens: Sequence[int] | np.ndarray) -> str:
    """Generated tokens as text: without special tokens, negative ids and white space around it."""
    kept = [int(token) for token in tokens if token >= 0]
    return tokenizer.decode(kept, skip_special_tokens=True).strip()


def encode_task(
    task: TaskData,
    tokenizer: Any,
    *,
    max_len: int,
    vocabulary: int,
    prompt: str = "auto",
    types: int = 1,
) -> EncodedTask:
    """Tokenise a task.

    Args:
        task: The texts.
        tokenizer: Of transformers.
        max_len: Longer examples are dropped and counted.
        vocabulary: How many tokens the model knows.
        prompt: ``plain``, ``chat``, or ``auto``: chat where the tokenizer has a template. Has no
            meaning for classification and regression, where the text goes in as it is.
        types: How many token types the model knows, by which BERT tells two texts apart.

    Raises:
        DataError: An id or a type that the model does not know, no end-of-text token, a template
            that cannot be cut, or nothing left of the training split.

    """
    splits, dropped = {}, {}
    for name, lines in task.splits.items():
        examples = []
        if lines:
            examples = encode_lines(lines, task.kind, tokenizer, vocabulary, prompt, types)
        kept = tuple(e for e in examples if len(e.tokens) <= max_len)
        if name == "train" and not kept:
            shortest = min(len(e.tokens) for e in examples)
            raise DataError(
                f"task {task.name}: nothing is left to train on: all {len(lines)} examples are "
                f"longer than max_len = {max_len} tokens, the shortest has {shortest}."
            )
        splits[name], dropped[name] = kept, len(examples) - len(kept)
    return EncodedTask(task.name, task.kind, task.labels, splits, dropped, task.sha256)


def encode_lines(
    lines: Sequence[Line],
    kind: Kind,
    tokenizer: Any,
    vocabulary: int,
    prompt: str,
    types: int = 1,
) -> list[Example]:
    """Token ids of every line; see `encode_task`."""
    if kind == "text":
        chat = prompt == "chat" or (prompt == "auto" and bool(tokenizer.chat_template))
        prompts, targets = (_chat if chat else _plain)(lines, tokenizer)
        kinds: Sequence[Any] = [0 for _ in lines]
    else:
        found = tokenizer(
            [line.text for line in lines],
            _pairs(lines),
            return_token_type_ids=types > 1,
            verbose=False,
        )
        prompts, targets = [[] for _ in lines], found["input_ids"]
        kinds = [0 for _ in lines]
        if types > 1:
            kinds = [np.array(own, np.int32) for own in found["token_type_ids"]]
    examples = []
    for line, before, after, own in zip(lines, prompts, targets, kinds, strict=True):
        tokens = np.array(before + after, np.int32)
        if not tokens.size:
            raise DataError(f"{line.source}: the tokenizer makes no token of the text.")
        if tokens.max() >= vocabulary:
            id_ = int(tokens.max())
            raise DataError(
                f"{line.source}: the tokenizer {tokenizer.name_or_path} gives the id {id_} "
                f"({tokenizer.convert_ids_to_tokens(id_)!r}), but the model knows {vocabulary} "
                "tokens: they do not belong together."
            )
        if np.max(own) >= types:
            raise DataError(
                f"{line.source}: the tokenizer {tokenizer.name_or_path} gives the token type "
                f"{np.max(own)}, but the model knows {types}: they do not belong together."
            )
        examples.append(Example(tokens, len(before), line, own))
    return examples


def _plain(lines: Sequence[Line], tokenizer: Any) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts with what the tokenizer puts in front, targets with the end-of-text token."""
    end = _end(tokenizer)
    texts = [plain_prompt(line.instruction, line.text) + "\n" for line in lines]
    prompts = tokenizer(texts, verbose=False)["input_ids"]
    # Tokenizers of encoders and of some translators end every text; the prompt goes on.
    prompts = [ids[:-1] if ids[-1] == end else ids for ids in prompts]
    return prompts, [[*ids, end] for ids in _bare(tokenizer, [line.target for line in lines])]


def _chat(lines: Sequence[Line], tokenizer: Any) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and answers as the chat template renders them."""
    if not tokenizer.chat_template:
        raise DataError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat template (prompt: plain needs "
            "none)."
        )
    end = _end(tokenizer)
    starts, answers = [], []
    # Tokenizers that put a space in front of every text would double the one that is there.
    spaced = tokenizer.convert_ids_to_tokens(_bare(tokenizer, ["a"])[0])[0].startswith("▁")
    for line in lines:
        asked = [{"role": "user", "content": plain_prompt(line.instruction, line.text)}]
        told = [*asked, {"role": "assistant", "content": line.target}]
        start = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(told, tokenize=False)
        if not whole.startswith(start):
            raise DataError(
                f"{tokenizer.name_or_path}: the chat template renders a prompt differently once it "
                "is answered, so the answer cannot be told apart."
            )
        answer = whole[len(start) :]
        starts.append(start)
        answers.append(answer.removeprefix(" ") if spaced else answer)
    # The template writes the special tokens itself.
    ids = _bare(tokenizer, answers)
    return _bare(tokenizer, starts), [
        [*a[: a.index(end)], end] if end in a else [*a, end] for a in ids
    ]


def _pairs(lines: Sequence[Line]) -> list[str] | None:
    """The second texts, if there are any; every line has one then."""
    pairs = [line.text_pair for line in lines if line.text_pair is not None]
    if pairs and len(pairs) < len(lines):
        bad = next(line for line in lines if line.text_pair is None)
        raise DataError(f"{bad.source}: text_pair is missing, but other lines have one.")
    return pairs or None


def _bare(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]


def _end(tokenizer: Any) -> int:
    if tokenizer.eos_token_id is None:
        raise DataError(
            f"{tokenizer.name_or_path}: the tokenizer has no end-of-text token (eos_token), which "
            "every target must end with."
        )
    return tokenizer.eos_token_id
