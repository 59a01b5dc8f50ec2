"""Prompts and targets in rows of people's own data, whatever the rows look like.

A conversation's target is the last turn of the assistant; what comes before it is the prompt, and
what comes after it is left out. The prompt is the user's turn as it is if there is only that one;
else each turn begins with ``User:``, ``Assistant:`` or ``Tool:``. Turns are parted by a blank line.
What the system says is a turn without such a word.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jaxtask.corpora.table_rows import kind_of, label_of, some, table_rows, text_of
from jaxtask.errors import TaskError

_ROLES = {
    "System": ("system", "developer"),
    "User": ("user", "human", "prompter"),
    "Assistant": ("assistant", "gpt", "chatgpt", "bot", "model"),
    "Tool": ("tool", "function", "ipython", "observation"),
}
_ROLE = {name: role for role, names in _ROLES.items() for name in names}


class Pair(NamedTuple):
    """A row's prompt and target, and where it is."""

    where: str
    prompt: str
    target: str


class Without(NamedTuple):
    """A row that is no example, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class Shape:
    """How rows say prompt and target."""

    name: str
    needs: tuple[str, ...]
    """Columns that make up the shape."""
    also: tuple[str, ...]
    """Columns that are read if they are there."""
    read: Callable[[Mapping[str, Any], str], tuple[str, str] | str]
    """Prompt and target of a row at a place; or why it has none."""


def columns(prompt: str, target: str, name: str = "columns") -> Shape:
    """Rows with the whole prompt in one column and the target in another."""

    def read(row: Mapping[str, Any], where: str) -> tuple[str, str] | str:
        asked, told = _text(row, prompt, where), _target(row, target, where)
        if asked and told:
            return asked, told
        return _nothing(target if asked else prompt)

    return Shape(name, (prompt, target), (), read)


def pairs(path: Path, shape: Shape | None = None) -> tuple[Shape, Iterator[Pair | Without]]:
    """The shape of a table's rows, found if it is not given, and what each row has.

    Raises:
        CorpusError: The file cannot be read.
        TaskError: No row has the columns, or a value is of a wrong type.

    """
    shape = shape or _found(path)
    return shape, _pairs(path, shape)


def _pairs(path: Path, shape: Shape) -> Iterator[Pair | Without]:
    missing, seen = set(shape.needs), dict.fromkeys[str]([])
    for place, row in table_rows(path):
        missing -= row.keys()
        if missing:
            seen |= dict.fromkeys(row)
        found = shape.read(row, f"{path}, {place}")
        where = f"{path.name}, {place}"
        yield Without(where, found) if isinstance(found, str) else Pair(where, *found)
    if missing and seen:
        raise TaskError(f"{path}: no column {min(missing)!r} in any row (there: {some(seen)})")


def _found(path: Path) -> Shape:
    """The shape of the first row that has one."""
    seen: dict[str, None] = {}
    for _, row in table_rows(path):
        for shape in _SHAPES:
            if row.keys() >= set(shape.needs):
                return shape
        seen |= dict.fromkeys(row)
    if not seen:
        raise TaskError(f"{path}: has no rows")
    known = "; ".join(", ".join(shape.needs) for shape in _SHAPES)
    raise TaskError(
        f"{path}: give the columns of prompt and target (--prompt, --target): the rows have "
        f"{some(seen)}, and none of the known shapes ({known})"
    )


def _alpaca(row: Mapping[str, Any], where: str) -> tuple[str, str] | str:
    asked, told = _text(row, "instruction", where), _target(row, "output", where)
    if not (asked and told):
        return _nothing("output" if asked else "instruction")
    parts = (_text(row, "system", where), asked, _text(row, "input", where))
    return "\n\n".join(filter(None, parts)), told


def _conversation(column: str) -> Shape:
    def read(row: Mapping[str, Any], where: str) -> tuple[str, str] | str:
        given = row.get(column)
        if given is None or given == []:
            return _nothing(column)
        turns = list(_turns(given, column, where))
        if system := _text(row, "system", where):
            turns.insert(0, ("System", system))
        return _last_answer(turns)

    return Shape(column, (column,), ("system",), read)


def _last_answer(turns: list[tuple[str, str | None]]) -> tuple[str, str] | str:
    last = max((n for n, (role, _) in enumerate(turns) if role == "Assistant"), default=None)
    if last is None:
        return "no turn of the assistant"
    target = turns[last][1]
    if any(text is None for _, text in turns[: last + 1]):
        return "a turn holds what is no text"
    if not target or not target.strip():
        return "the last turn of the assistant is empty"
    before = [(role, text) for role, text in turns[:last] if text and text.strip()]
    said = [role for role, _ in before if role != "System"]
    if not {"User", "Tool"} & set(said):
        return "no turn before the assistant's"
    alone = said == ["User"]
    parts = (text if alone or role == "System" else f"{role}: {text}" for role, text in before)
    return "\n\n".join(parts), target


def _turns(given: Any, column: str, where: str) -> Iterator[tuple[str, str | None]]:
    """(role, text) of each turn; None for what is no text, such as an image."""
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
        key = "content" if turn.get("content") is not None else "value"
        yield role, _content(turn.get(key), key, at)


def _content(value: Any, key: str, at: str) -> str | None:
    """A turn's text; of a list of parts, what they say together."""
    if value is None:
        return ""
    if not isinstance(value, list):
        return text_of(value, key, at)
    texts = [part.get("text") if isinstance(part, dict) else part for part in value]
    return "".join(texts) if all(isinstance(text, str) for text in texts) else None


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    """The text in a column as it is; empty where there is none, or white space only."""
    value = row.get(column)
    if value is None or (isinstance(value, float) and value != value):
        return ""
    text = text_of(value, column, where)
    return text if text.strip() else ""


def _target(row: Mapping[str, Any], column: str, where: str) -> str:
    """As `_text`; a number or a truth value is what JSON writes of it."""
    value = row.get(column)
    if value is None or isinstance(value, str) or (isinstance(value, float) and value != value):
        return _text(row, column, where)
    return label_of(value, column, where)


def _nothing(column: str) -> str:
    return f"nothing in {column!r}"


_SHAPES: tuple[Shape, ...] = (
    _conversation("messages"),
    _conversation("conversations"),
    columns("prompt", "completion", "prompt and completion"),
    Shape("alpaca", ("instruction", "output"), ("input", "system"), _alpaca),
)


def unread(path: Path, shape: Shape) -> list[str]:
    """The columns of a table that are not read, in order."""
    names: Iterable[str] = (name for _, row in table_rows(path) for name in row)
    return [name for name in dict.fromkeys(names) if name not in shape.needs + shape.also]
