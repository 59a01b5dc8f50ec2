"""From a task's texts to token ids, and which of them are learned.

Prompt and target are tokenised together: the ids are those of the whole, which is what a model sees
of a conversation. Only where a token would hold the end of the prompt and the start of the target
are they tokenised apart, the target as a continuation. So the loss starts exactly at the target,
and the ids of the prompt are the ones that generation starts from. For base models a line break,
which belongs to the prompt, stands between the two. For chat templates the cut is where the
rendered conversation continues after the rendered prompt, so what the template writes after an
answer is learned too.

Data is data: see `jaxtask.finetune.data.tokens`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from jaxtask.corpora.prompt import plain_prompt
from jaxtask.errors import DataError
from jaxtask.finetune.data.chat import Conversation
from jaxtask.finetune.data.task_data import Kind, Line, TaskData
from jaxtask.finetune.data.tokens import Tokens, split
from jaxtask.finetune.data.tokens import decode as decode
from jaxtask.finetune.data.tokens import open_tokenizer as open_tokenizer

# How often a text is cut again, if it is still too long after the first time.
_CUTS = 8


@dataclass(frozen=True, eq=False)
class Example:
    """One example as token ids.

    Attributes:
        tokens: [n] int32.
        prompt: How many of the tokens are prompt, from the start: these are not learned.
        types: Token types [n] int32; or one for all.

    """

    tokens: np.ndarray
    prompt: int
    line: Line
    types: np.ndarray | int = 0


@dataclass(frozen=True, eq=False)
class EncodedTask:
    """A task ready for batches.

    Attributes:
        dropped: How many examples of each split were longer than `max_len`.
        truncated: How many examples of each split were cut to `max_len`; they are in `splits`.

    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    splits: dict[str, tuple[Example, ...]]
    dropped: dict[str, int]
    sha256: dict[str, str]
    truncated: dict[str, int] = field(default_factory=dict)

    def rows(self) -> dict[str, dict[str, int]]:
        """Of each split with examples: how many are used, cut among them, and dropped."""
        counts = {
            split: {
                "used": len(examples),
                "truncated": self.truncated.get(split, 0),
                "dropped": self.dropped.get(split, 0),
            }
            for split, examples in self.splits.items()
        }
        return {split: own for split, own in counts.items() if own["used"] + own["dropped"]}


def encode_task(
    task: TaskData,
    tokenizer: Any,
    *,
    max_len: int,
    vocabulary: int,
    prompt: str = "auto",
    types: int = 1,
    truncate: bool = False,
) -> EncodedTask:
    """Tokenise a task.

    Args:
        task: The texts.
        tokenizer: A tokenizer of transformers, or the `Tokens` of one, which is made once for many
            tasks.
        max_len: Longer examples are dropped and counted.
        vocabulary: How many tokens the model knows.
        prompt: ``plain``, ``chat``, or ``auto``: chat where the tokenizer has a template. Has no
            meaning for classification and regression, where the text goes in as it is.
        types: How many token types the model knows, by which BERT tells two texts apart.
        truncate: Whether longer examples are cut instead: the document (`text`) of a prompt at its
            end, never the instruction, the target, or what the template writes; of two texts to
            classify the longer one, token by token. An example that is too long without any
            document is dropped anyway.

    Raises:
        DataError: An id or a type that the model does not know, no end-of-text token, a template
            that cannot be rendered or cut, or nothing left of the training split.

    """
    tokens = tokenizer if isinstance(tokenizer, Tokens) else Tokens(tokenizer)
    splits, dropped, truncated = {}, {}, {}
    for name, lines in task.splits.items():
        try:
            examples = encode_lines(lines, task.kind, tokens, vocabulary, prompt, types)
            long = [n for n, example in enumerate(examples) if len(example.tokens) > max_len]
            cut: list[Example | None] = []
            if truncate and long:
                given = [lines[n] for n in long]
                if task.kind == "text":
                    cut = _cut_documents(given, tokens, vocabulary, prompt, max_len)
                else:
                    cut = list(_labelled(given, tokens, vocabulary, types, max_len))
        except DataError as error:
            raise DataError(f"task {task.name}: {error}") from error
        found: list[Example | None] = list(examples)
        for n, example in zip(long, cut or [None] * len(long), strict=True):
            found[n] = example
        kept = tuple(example for example in found if example is not None)
        if name == "train" and not kept:
            shortest = min(len(e.tokens) for e in examples)
            remedy = "a larger training.max_len=N"
            if not truncate:
                remedy += " or training.truncate=True"
            raise DataError(
                f"task {task.name}: nothing is left to train on: all {len(lines)} examples are "
                f"longer than max_len = {max_len} tokens, the shortest has {shortest}; give "
                f"{remedy}, or shorter examples"
            )
        splits[name], dropped[name] = kept, len(examples) - len(kept)
        truncated[name] = len(long) - dropped[name]
    return EncodedTask(task.name, task.kind, task.labels, splits, dropped, task.sha256, truncated)


def encode_lines(
    lines: Sequence[Line],
    kind: Kind,
    tokens: Tokens,
    vocabulary: int,
    prompt: str,
    types: int = 1,
) -> list[Example]:
    """Token ids of every line; see `encode_task`."""
    if not lines:
        return []
    if kind != "text":
        return list(_labelled(lines, tokens, vocabulary, types))
    return list(_answered(lines, tokens, vocabulary, prompt))


def _answered(
    lines: Sequence[Line], tokens: Tokens, vocabulary: int, prompt: str
) -> Iterator[Example]:
    """Prompts with their targets."""
    chat = prompt == "chat" or (prompt == "auto" and bool(tokens.template))
    for line, written in zip(lines, (_chat if chat else _plain)(lines, tokens), strict=True):
        ids = np.array(written.prompt + written.learned, np.int64)
        _check_ids(ids, line, tokens, vocabulary)
        yield Example(ids.astype(np.int32), len(written.prompt), line)


def _labelled(
    lines: Sequence[Line], tokens: Tokens, vocabulary: int, types: int, longest: int | None = None
) -> Iterator[Example]:
    """Texts to classify, one or two of them."""
    tokens.truncate(longest)
    try:
        found = tokens.encode([line.text for line in lines], _pairs(lines), special=True)
    finally:
        tokens.truncate(None)
    for line, encoding in zip(lines, found, strict=True):
        ids = np.array(encoding.ids, np.int64)
        _check_ids(ids, line, tokens, vocabulary)
        own: np.ndarray | int = 0
        if types > 1:
            own = np.array(encoding.type_ids, np.int32)
            if np.max(own) >= types:
                raise DataError(
                    f"{line.source}: the tokenizer {tokens.name} gives the token type "
                    f"{np.max(own)}, but the model knows {types}: they do not belong together"
                )
        yield Example(ids.astype(np.int32), 0, line, own)


def _check_ids(ids: np.ndarray, line: Line, tokens: Tokens, vocabulary: int) -> None:
    if not ids.size:
        raise DataError(f"{line.source}: the tokenizer makes no token of the text")
    if not 0 <= ids.min() <= ids.max() < vocabulary:
        bad = int(ids.max() if ids.max() >= vocabulary else ids.min())
        raise DataError(
            f"{line.source}: the tokenizer {tokens.name} gives the id {bad} "
            f"({tokens.text_of(bad)!r}), but the model knows {vocabulary} tokens: they do not "
            "belong together"
        )


class _Written(NamedTuple):
    """Ids of a prompt and of what is learned after it."""

    prompt: list[int]
    learned: list[int]


def _plain(lines: Sequence[Line], tokens: Tokens) -> list[_Written]:
    """Prompts with what the tokenizer puts in front, targets with the end-of-text token."""
    end, before = tokens.end, tokens.begin
    prompts = [plain_prompt(line.instruction, line.text) + "\n" for line in lines]
    parts = _joined(tokens, prompts, [line.target for line in lines])
    return [_Written(before + prompt, [*target, end]) for prompt, target in parts]


def _chat(lines: Sequence[Line], tokens: Tokens) -> list[_Written]:
    """Prompts and answers as the chat template renders them."""
    if not tokens.template:
        raise DataError(
            f"{tokens.name}: the tokenizer has no chat template (prompt: plain needs none)"
        )
    end = tokens.end
    conversations = []
    for line in lines:
        content = tokens.mask(plain_prompt(line.instruction, line.text))
        asked = [{"role": "user", "content": content}]
        told = [*asked, {"role": "assistant", "content": tokens.mask(line.target)}]
        conversations.append(Conversation(asked, line.source, prompt=True))
        conversations.append(Conversation(told, line.source, prompt=False))
    texts = tokens.render(conversations)
    starts, answers = [], []
    for line, start, whole in zip(lines, texts[::2], texts[1::2], strict=True):
        if not whole.startswith(start):
            raise DataError(
                f"{line.source}: the chat template of {tokens.name} renders a prompt differently "
                "once it is answered, so the answer cannot be told apart"
            )
        starts.append(tokens.unmask(start))
        answers.append(tokens.unmask(whole[len(start) :]))
    # The template writes the special tokens itself, and with them the end of an answer.
    return [
        _Written(prompt, [*(learned[: learned.index(end)] if end in learned else learned), end])
        for prompt, learned in _joined(tokens, starts, answers)
    ]


def _joined(
    tokens: Tokens, starts: Sequence[str], rests: Sequence[str]
) -> Iterator[tuple[list[int], list[int]]]:
    """Ids of texts that continue others: of each text, and of its continuation."""
    wholes = tokens.encode([start + rest for start, rest in zip(starts, rests, strict=True)])
    parts = tokens.encode(starts)
    for start, rest, whole, part in zip(starts, rests, wholes, parts, strict=True):
        at = split(whole.offsets, len(start))
        if at is not None and whole.ids[:at] == part.ids:
            yield part.ids, whole.ids[at:]
        else:
            yield part.ids, tokens.continued(rest)


def _cut_documents(
    lines: Sequence[Line], tokens: Tokens, vocabulary: int, prompt: str, max_len: int
) -> list[Example | None]:
    """Examples whose documents are cut at their end until all fits; None where nothing does."""
    found: list[Example | None] = [None for _ in lines]
    documents = tokens.encode([line.text for line in lines])
    kept = {n: len(document.ids) for n, document in enumerate(documents)}
    excess = {
        n: len(example.tokens) - max_len
        for n, example in enumerate(_answered(lines, tokens, vocabulary, prompt))
    }
    for _ in range(_CUTS):
        kept = {n: kept[n] - more for n, more in excess.items() if kept[n] > more}
        cut = [replace(lines[n], text=_start(lines[n].text, documents[n], kept[n])) for n in kept]
        places = [n for n, line in zip(kept, cut, strict=True) if line.text.strip()]
        cut = [line for line in cut if line.text.strip()]
        if not cut:
            break
        excess = {}
        for n, example in zip(places, _answered(cut, tokens, vocabulary, prompt), strict=True):
            over = len(example.tokens) - max_len
            if over > 0:
                excess[n] = over
            else:
                found[n] = example
    return found


def _start(text: str, encoding: Any, number: int) -> str:
    """The start of a text that its first tokens stand for."""
    return text[: encoding.offsets[number - 1][1]].rstrip()


def _pairs(lines: Sequence[Line]) -> list[str] | None:
    """The second texts, if there are any; every line has one then."""
    pairs = [line.text_pair for line in lines if line.text_pair is not None]
    if pairs and len(pairs) < len(lines):
        bad = next(line for line in lines if line.text_pair is None)
        raise DataError(f"{bad.source}: text_pair is missing, but other lines have one")
    return pairs or None
