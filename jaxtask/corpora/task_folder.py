"""Folders of tasks: one JSON-lines file a split and `task.json`, complete or not there at all."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO, TypeVar

from jaxtask.errors import TaskError
from jaxtask.folders import check_replaceable, new_folder
from jaxtask.names import check_names, check_path

SPLITS = ("train", "dev", "test")
FILES = ("task.json", *(f"{split}.jsonl" for split in SPLITS))
"""All that a task's folder may hold."""
T = TypeVar("T")
_ALSO = {"valid": "dev", "validation": "dev", "eval": "dev"}


def by_split(given: Mapping[str, T]) -> dict[str, T]:
    """What is given for each split, in order: ``valid``, ``validation`` and ``eval`` are ``dev``.

    Raises:
        TaskError: There is no ``train``, a split has another name, or one comes by two names.

    """
    found: dict[str, T] = {}
    for name, value in given.items():
        split = _ALSO.get(name, name)
        if split not in SPLITS:
            raise TaskError(
                f"unknown split {name[:40]!r} (known: {', '.join(SPLITS)}; {', '.join(_ALSO)} "
                "are dev)"
            )
        if split in found:
            raise TaskError(f"the split {split} is given by two names: {', '.join(given)}")
        found[split] = value
    if not found.get("train"):
        raise TaskError("no corpus to train on: give train=PATH")
    return {split: found[split] for split in SPLITS if split in found}


def check_free(out: Path, names: Sequence[str], overwrite: bool) -> None:
    """Check that a task's folder is not there yet, or is to be replaced.

    Raises:
        TaskError: It is there and is to stay, or holds other files.

    """
    check_path(out, "out", TaskError)
    check_names(names, "task", TaskError)
    for name in names:
        check_replaceable(
            out / name, "a task", TaskError, ours=FILES, marks=["task.json"], overwrite=overwrite
        )


class Draft:
    """A task's folder that is being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: dict[str, TextIO] = {}

    def write(self, split: str, line: Mapping[str, Any]) -> None:
        """Add a line to a split."""
        if split not in self.files:
            path = self.path / f"{split}.jsonl"
            self.files[split] = path.open("w", encoding="utf-8", newline="\n")
        self.files[split].write(json.dumps(line, ensure_ascii=False) + "\n")

    def finish(self, about: Mapping[str, Any]) -> None:
        """Write `task.json` and close."""
        self.close()
        text = json.dumps(about, ensure_ascii=False, indent=2)
        (self.path / "task.json").write_text(text + "\n", encoding="utf-8")

    def close(self) -> None:
        """Write no more lines."""
        for file in self.files.values():
            file.close()


@contextmanager
def drafts(out: Path, names: Sequence[str]) -> Iterator[list[Draft]]:
    """Drafts of tasks, which all take their places if the body ends well, and else are removed.

    Raises:
        TaskError: The disk says no.

    """
    try:
        with ExitStack() as stack:
            places = [stack.enter_context(new_folder(out / name, FILES)) for name in names]
            made = [Draft(place) for place in places]
            try:
                yield made
            finally:
                for draft in made:
                    draft.close()
    except OSError as error:
        raise TaskError(f"{out}: cannot be written: {error}") from error
