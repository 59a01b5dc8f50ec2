"""Prompts and targets in rows of people's own data.

Every answer of a conversation is a target, and all that is said before it is its prompt, so that a
conversation is learned as trainers learn it. The prompt of a first answer is the user's turn as it
is. In longer ones each turn begins with ``User:``, ``Assistant:`` or ``Tool:``. A blank line stands
between turns; what the system says comes first, as it is.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jaxtask.corpora.table_rows import cell, kind_of, label_of, some, table_rows, text_of
from jaxtask.errors import TaskError

_ROLES = {
    "System": ("system", "developer"),
    "User": ("user", "human", "prompter"),
    "Assistant": ("assistant", "gpt", "chatgpt", "bot", "model"),
    "Tool": ("tool", "function", "ipython", "observation"),
}
MAX_PROMPTS = 1 << 22
"""Characters of all prompts of one conversation, which grow with the square of its turns."""
_ROLE = {name: role for role, names in _ROLES.items() for name in names}


class Pair(NamedTuple):
    """What is asked and what is to be said."""

    prompt: str
    target: str


@dataclass(frozen=True)
class Shape:
    """How rows say prompts and targets.

    Attributes:
        columns: Without these a row is refused.
        read: What a row at a place gives: pairs, and reasons why there are none.

    """

    columns: tuple[str, ...]
    read: Callable[[Mapping[str, Any], str], Iterator[Pair | str]]

    def rows(self, path: Path) -> Iterator[tuple[str, list[Pair | str]]]:
        """(place, what it gives) of every row of a table.

        Raises:
            CorpusError: The file cannot be read.
            TaskError: A row lacks a column, or a value is of a wrong type.

        """
        for place, row in table_rows(path):
            yield place, list(self.read(row, f"{path}, {place}"))


def columns(prompt: str, target: str) -> Shape:
    """Rows with the whole prompt in one column and the target in another."""

    def read(row: Mapping[str, Any], where: str) -> Iterator[Pair | str]:
        asked, told = _text(row, prompt, where), _target(row, target, where)
        yield Pair(asked, told) if asked and told else _nothing(target if asked else prompt)

    return Shape((prompt, target), read)


def known_shape(path: Path) -> Shape:
    """The shape of a table's rows, by the first of them.

    Raises:
        CorpusError: The file cannot be read.
        TaskError: There is no row, or it is of no known shape.

    """
    place, row = next(table_rows(path), ("", {}))
    if not place:
        raise TaskError(f"{path}: has no rows")
    found = next((shape for shape in _SHAPES if row.keys() >= set(shape.columns)), None)
    if found is None:
        known = "; ".join(", ".join(shape.columns) for shape in _SHAPES)
        raise TaskError(
            f"{path}, {place}: found the columns {some(row)}, expected those of a known shape "
            f"({known}); for others give prompt=COLUMN and target=COLUMN"
        )
    return found


def _alpaca(row: Mapping[str, Any], where: str) -> Iterator[Pair | str]:
    system, asked, given = (
        _text(row, column, where) if column in row else ""
        for column in ("system", "instruction", "input")
    )
    told = _target(row, "output", where)
    if row.get("history"):
        raise TaskError(
            f"{where}: the column 'history' holds {kind_of(row['history'])}, expected nothing: "
            "earlier turns are read from messages or conversations"
        )
    if asked and told:
        yield Pair("\n\n".join(part for part in (system, asked, given) if part), told)
    else:
        yield _nothing("output" if asked else "instruction")


def _conversation(column: str) -> Shape:
    def read(row: Mapping[str, Any], where: str) -> Iterator[Pair | str]:
        given = cell(row, column, where)
        if given is None or given == []:
            return iter([_nothing(column)])
        turns = list(_turns(given, column, where))
        if system := _text(row, "system", where) if "system" in row else "":
            turns.insert(0, ("System", system))
        return _answers(turns)

    return Shape((column,), read)


def _answers(turns: list[tuple[str, str | None]]) -> Iterator[Pair | str]:
    """A pair for every answer, or why there is none."""
    if not any(role == "Assistant" for role, _ in turns):
        yield "no turn of the assistant"
    before: list[tuple[str, str]] = []
    size = 0
    for role, text in turns:
        if text is None:
            # Nothing after it can be asked without it.
            yield "a turn has content that is not text"
            return
        if role == "Assistant":
            if not text:
                yield "an answer without text"
            elif not any(asking in ("User", "Tool") for asking, _ in before):
                yield "an answer without a question"
            else:
                prompt = _prompt(before)
                size += len(prompt)
                if size > MAX_PROMPTS:
                    yield f"answers after {MAX_PROMPTS:,} characters of prompts in one conversation"
                    return
                yield Pair(prompt, text)
        if text:
            before.append((role, text))


def _prompt(turns: list[tuple[str, str]]) -> str:
    alone = [role for role, _ in turns if role != "System"] == ["User"]
    named = (text if alone or role == "System" else f"{role}: {text}" for role, text in turns)
    return "\n\n".join(named)


def _turns(given: Any, column: str, where: str) -> Iterator[tuple[str, str | None]]:
    """(role, text) of each turn, empty for white space only; None for what is no text."""
    if not isinstance(given, list):
        raise TaskError(
            f"{where}: the column {column!r} holds {kind_of(given)}, expected a list of turns"
        )
    for n, turn in enumerate(given, 1):
        at = f"{where}, turn {n} of {column!r}"
        if not isinstance(turn, dict):
            raise TaskError(f"{at}: found {kind_of(turn)}, expected an object")
        name = turn.get("role") if turn.get("role") is not None else turn.get("from")
        role = _ROLE.get(name.strip().lower()) if isinstance(name, str) else None
        if role is None:
            raise TaskError(f"{at}: the role is {kind_of(name)}, expected one of {some(_ROLE, 20)}")
        yield role, _content(turn, at)


def _content(turn: Mapping[str, Any], at: str) -> str | None:
    """A turn's text; of a list of parts, such as texts and images, all together."""
    key = "value" if turn.get("content") is None and "value" in turn else "content"
    if key not in turn:
        raise TaskError(f"{at}: found {some(turn)}, expected 'content' or 'value'")
    value = turn[key]
    if isinstance(value, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in value]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) < len(parts):
            return None
        value = "".join(texts)
    # A call of a tool has null.
    return "" if value is None else _text({key: value}, key, at)


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    """The text in a column as it is; empty where there is none, or white space only."""
    value = cell(row, column, where)
    return "" if value is None else text_of(value, column, where)


def _target(row: Mapping[str, Any], column: str, where: str) -> str:
    """As `_text`; a number or a truth value is written as a label is."""
    value = cell(row, column, where)
    if isinstance(value, str):
        return value
    return "" if value is None else label_of(value, column, where)


def _nothing(column: str) -> str:
    return f"nothing in {column!r}"


_SHAPES = (
    _conversation("messages"),
    _conversation("conversations"),
    columns("prompt", "completion"),
    Shape(("instruction", "output"), _alpaca),
)
