"""One task on one document: its examples, cut to fit, or why there are none."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jaxtask.corpora.document import LAYERS, Document
from jaxtask.corpora.length import WORDS, Length
from jaxtask.corpora.prompt import NEUTRAL, plain_prompt
from jaxtask.corpora.tasks import Task, faults_of
from jaxtask.errors import TaskError, shown


@dataclass(frozen=True)
class Fit:
    """What an example may be.

    Attributes:
        max_len: Largest length of instruction, text and target together, or of a text to classify;
            None for any length.
        neutral: All instructions are `NEUTRAL`.

    """

    max_len: int | None = None
    length: Length = WORDS
    neutral: bool = False


@dataclass(frozen=True)
class Dropped:
    """Why there is no example, and where that is seen if it is in a file."""

    reason: str
    where: str = ""


@dataclass(frozen=True)
class Example:
    """One line of a task's file, and how long it is."""

    line: dict[str, Any]
    size: int
    cut: bool


def examples(task: Task, document: Document, fit: Fit) -> Iterator[Example | Dropped]:
    """Every example that a task makes of a document: one, or one a sentence.

    A document is cut after the last sentence with which it fits, and the target is made from what
    is left.

    Raises:
        TaskError: The task's function returned something else than two texts, or one of somebody's
            own raised.

    """
    if not document.sentences:
        yield Dropped("no sentences")
        return
    for layer in task.needs:
        if layer in document.broken:
            yield Dropped(f"the layer {layer!r} is broken", document.broken[layer])
            return
        if not document.has(layer):
            yield Dropped(f"no {LAYERS[layer]}")
            return
    size = len(document.sentences)
    starts = range(size) if task.unit == "sentence" else (0,)
    for start in starts:
        yield _example(task, document, start, start + 1 if task.unit == "sentence" else size, fit)


def _example(task: Task, document: Document, start: int, end: int, fit: Fit) -> Example | Dropped:
    make = _text_example if task.kind == "text" else _class_example

    def sized(last: int) -> Example:
        fields, size = make(task, document.window(start, last), fit)
        where = {"document_id": document.id, "part": document.part, "window": [start, last]}
        return Example(fields | where, size, cut=last < end)

    found = _longest_fit(sized, start, end, fit.max_len)
    if found is None:
        what = "the sentence" if task.unit == "sentence" else "the first sentence"
        if task.kind == "text":
            what += ", with instruction and target,"
        return Dropped(f"{what} exceeds {fit.max_len} {fit.length.unit}")
    if not found.line["text"].strip():
        return Dropped("nothing to read: the text is empty")
    if task.kind == "text" and not found.line["target"].strip():
        return Dropped("nothing to keep: the target is empty")
    return found


def _longest_fit(
    sized: Callable[[int], Example], start: int, end: int, max_len: int | None
) -> Example | None:
    """The whole if it fits, else what ends after some sentence with which it fits, by bisection.

    It fits with that sentence and does not with the next one. Where a target can shrink as the text
    grows, a longer window might fit too.
    """
    whole = sized(end)
    if max_len is None or whole.size <= max_len:
        return whole
    found = None
    low, high = start, end  # It fits at `low` (if that is any text at all), not at `high`.
    while high - low > 1:
        middle = (low + high) // 2
        example = sized(middle)
        if example.size <= max_len:
            low, found = middle, example
        else:
            high = middle
    return found


def _text_example(task: Task, window: Document, fit: Fit) -> tuple[dict[str, Any], int]:
    instruction, target = _called(task, window)
    if fit.neutral:
        instruction = NEUTRAL
    text = window.text
    count = fit.length.count
    size = count(plain_prompt(instruction, text)) + count(target) + fit.length.overhead
    return {"instruction": instruction, "text": text, "target": target}, size


def _class_example(task: Task, window: Document, fit: Fit) -> tuple[dict[str, Any], int]:
    text, label = _called(task, window)
    return {"text": text, "label": label}, fit.length.count(text) + fit.length.overhead


def _called(task: Task, window: Document) -> tuple[str, str]:
    where = f"task {task.name!r}, document {shown(window.id, 80)}"
    with faults_of(task.function, where):
        made = task.function(window)
    if not (isinstance(made, tuple) and len(made) == 2 and all(map(_is_text, made))):
        raise TaskError(f"{where}: the function returned {shown(made, 80)}, expected two texts")
    return made


def _is_text(value: object) -> bool:
    """Whether it is Unicode text, which a file can hold."""
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:
        return False
