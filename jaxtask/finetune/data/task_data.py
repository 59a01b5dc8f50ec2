"""A task's data folder: `task.json`, and `train.jsonl`, `dev.jsonl`, `test.jsonl` beside it."""

import hashlib
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from jaxtask.errors import DataError
from jaxtask.names import check_name, check_path, matching
from jaxtask.text_files import as_object, parse_json

_LARGEST = 3e38
Kind = Literal["text", "classification", "regression"]


@dataclass(frozen=True)
class Line:
    """One example as text. Of `text` tasks the target is set, of the others the label.

    Attributes:
        source: ``file, line N``, for messages.
        instruction: Empty where the text is the whole prompt.
        label: The class's place in the label set, or the value to predict.

    """

    source: str
    text: str
    instruction: str = ""
    target: str = ""
    text_pair: str | None = None
    label: int | float | None = None


@dataclass(frozen=True)
class TaskData:
    """One task: its examples by split, and what they are.

    Attributes:
        labels: The classes in order; empty for other kinds.
        sha256: SHA-256 of every file that was read, by its name.

    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    splits: dict[str, tuple[Line, ...]]
    sha256: dict[str, str]


def find_tasks(patterns: Iterable[str]) -> list[Path]:
    """The folders that paths and patterns (with ``*``) name, in their order.

    Raises:
        DataError: Nothing is there, it is no folder, or two folders have one name.

    """
    found: dict[str, Path] = {}
    for pattern in patterns:
        path = check_path(pattern, "data", DataError)
        paths = [Path(p) for p in matching(str(path), DataError)] or [path]
        paths = [path] if path.exists() else paths
        for path in paths:
            if not path.is_dir():
                what = "is a file" if path.exists() else "is not there"
                raise DataError(f"{path}: {what}, expected a task's folder")
            name = check_name(path.resolve().name, f"{path}: the task's name", DataError)
            if found.setdefault(name, path).resolve() != path.resolve():
                raise DataError(
                    f"{path} and {found[name]} have one name, and so would their adapters"
                )
    return list(found.values())


def read_task(folder: str | os.PathLike[str], splits: Iterable[str] = ("train", "dev")) -> TaskData:
    """Read one data folder. The task is named by the folder; a split without a file is empty.

    Raises:
        DataError: Names the file and line, what was found and what was expected.

    """
    folder = Path(folder)
    sha256: dict[str, str] = {}
    about = _json(_read(folder / "task.json", sha256), str(folder / "task.json"))
    kind: Any = about.get("kind")
    if kind not in get_args(Kind):
        kinds = ", ".join(get_args(Kind))
        raise DataError(f"{folder / 'task.json'}: kind is {_shown(kind)}, expected one of {kinds}")
    labels = about.get("labels") if kind == "classification" else []
    names = _names(labels, str(folder / "task.json")) if kind == "classification" else {}
    found: dict[str, tuple[Line, ...]] = {}
    for split in splits:
        file = folder / f"{split}.jsonl"
        if not file.exists() and split != "train":
            found[split] = ()
            continue
        rows = _read(file, sha256).splitlines()
        found[split] = tuple(
            _line(row, f"{file}, line {n}", kind, names) for n, row in enumerate(rows, 1) if row
        )
    if not found.get("train", (None,)):
        raise DataError(f"{folder / 'train.jsonl'}: holds no examples, expected at least one")
    return TaskData(folder.resolve().name, kind, tuple(names), found, sha256)


def _names(labels: Any, source: str) -> dict[str, int]:
    """The classes by their names, each with its place."""
    listed = isinstance(labels, list) and all(_is_label(label) for label in labels)
    names = {str(label): n for n, label in enumerate(labels)} if listed else {}
    if len(names) < 2 or len(names) < len(labels):
        raise DataError(
            f"{source}: labels is {_shown(labels)}, expected a list of two different labels or "
            "more: texts, numbers, true or false"
        )
    return names


def _is_label(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, bool | int) or (isinstance(value, str) and _is_utf8(value))


def _is_utf8(text: str) -> bool:
    """Whether it is text: JSON can hold halves of characters, which no tokenizer takes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any, most: int = 200) -> str:
    text = ascii(value) if isinstance(value, str) and not _is_utf8(value) else repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."


def _read(file: Path, sha256: dict[str, str]) -> bytes:
    try:
        if file.exists() and not file.is_file():
            raise DataError(f"{file}: is not a regular file")
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    sha256[file.name] = hashlib.sha256(content).hexdigest()
    return content


def _json(content: bytes, source: str) -> dict[str, Any]:
    return as_object(parse_json(content, source, DataError), source, DataError)


def _line(row: bytes, source: str, kind: Kind, names: dict[str, int]) -> Line:
    fields = _json(row, source)
    text = _text(fields, "text", source)
    if kind == "text":
        whole = fields.get("instruction") == ""
        instruction = "" if whole else _text(fields, "instruction", source)
        return Line(source, text, instruction, _text(fields, "target", source))
    pair = None if fields.get("text_pair") is None else _text(fields, "text_pair", source)
    label: Any = fields.get("label")
    if kind == "regression":
        number = isinstance(label, int | float) and not isinstance(label, bool)
        # Labels are float32 numbers in batches.
        if not number or not abs(label) <= _LARGEST:
            raise DataError(f"{source}: label is {_shown(label)}, expected a finite number")
        return Line(source, text, text_pair=pair, label=float(label))
    if not _is_label(label) or str(label) not in names:
        known = _shown(", ".join(names)).strip("'\"")
        raise DataError(f"{source}: label is {_shown(label)}, expected one of {known}")
    return Line(source, text, text_pair=pair, label=names[str(label)])


def _text(fields: dict[str, Any], key: str, source: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not value.strip() or not _is_utf8(value):
        found = "missing" if key not in fields else _shown(value)
        raise DataError(f"{source}: {key} is {found}, expected text")
    return value
