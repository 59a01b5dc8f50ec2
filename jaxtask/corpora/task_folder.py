"""Folders of tasks: one JSON-lines file a split and `task.json`, complete or not there at all."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from jaxtask.errors import TaskError

SPLITS = ("train", "dev", "test")


def check_splits(splits: Mapping[str, Any]) -> None:
    """Raise `TaskError` unless there are `train` and no other splits than `SPLITS`."""
    for name in splits:
        if name not in SPLITS:
            raise TaskError(f"unknown split {name!r} (known: {', '.join(SPLITS)})")
    if not splits.get("train"):
        raise TaskError("no corpus to train on: give train=PATH")


def check_free(out: Path, names: Sequence[str], overwrite: bool) -> None:
    """Raise `TaskError` if a task's folder is there already and is not to be replaced."""
    for name in names:
        folder = out / name
        if folder.exists() and not overwrite:
            raise TaskError(f"{folder} exists; give overwrite=True (--overwrite) to replace it")
        if folder.exists() and not (folder / "task.json").is_file():
            raise TaskError(f"{folder} is no folder of a task (it has no task.json): not replaced")


class Draft:
    """A task's folder that is being written, under a hidden name beside its own."""

    def __init__(self, out: Path, name: str) -> None:
        self.place = out / name
        self.path = out / f".{name}.{os.getpid()}"
        self.old = out / f".{name}.{os.getpid()}.old"
        self.files: dict[str, TextIO] = {}

    def write(self, split: str, line: Mapping[str, Any]) -> None:
        """Add a line to a split."""
        if split not in self.files:
            self.path.mkdir(exist_ok=True)
            path = self.path / f"{split}.jsonl"
            self.files[split] = path.open("w", encoding="utf-8", newline="\n")
        self.files[split].write(json.dumps(line, ensure_ascii=False) + "\n")

    def finish(self, about: Mapping[str, Any]) -> None:
        """Write `task.json` and close."""
        for file in self.files.values():
            file.close()
        text = json.dumps(about, ensure_ascii=False, indent=2)
        (self.path / "task.json").write_text(text + "\n", encoding="utf-8")

    def publish(self) -> None:
        """Take the folder's place."""
        if self.place.exists():
            self.place.rename(self.old)
        self.path.rename(self.place)

    def clear(self) -> None:
        """Leave nothing behind."""
        for file in self.files.values():
            with suppress(OSError):
                file.close()
        for path in (self.path, self.old):
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def drafts(out: Path, names: Sequence[str]) -> Iterator[list[Draft]]:
    """Drafts of tasks, which all take their places if the body ends well, and else are removed.

    Raises:
        TaskError: The disk says no.

    """
    folders = [Draft(out, name) for name in names]
    fresh = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield folders
        for folder in folders:
            folder.publish()
    except OSError as error:
        raise TaskError(f"{out}: cannot be written: {error}") from error
    finally:
        for folder in folders:
            folder.clear()
        if fresh:
            with suppress(OSError):
                out.rmdir()  # Unless there is something in it.
