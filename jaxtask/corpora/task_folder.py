"""A task's folder: one JSON-lines file a split and its provenance, complete or not there at all."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtask.errors import TaskError

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class TaskFolder:
    """What is to be written: lines of every split, and what `task.json` says."""

    name: str
    splits: Mapping[str, Sequence[Mapping[str, Any]]]
    about: Mapping[str, Any]


def check_splits(splits: Mapping[str, Sequence[Any]]) -> None:
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


def write_folders(out: Path, folders: Sequence[TaskFolder]) -> None:
    """Write all folders below `out`, none if one of them cannot be written.

    Raises:
        TaskError: The disk says no.

    """
    drafts: list[tuple[Path, Path]] = []
    replaced: list[Path] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for folder in folders:
            draft = out / f".{folder.name}.{os.getpid()}"
            drafts.append((draft, out / folder.name))
            _write(draft, folder)
        for draft, place in drafts:
            if place.exists():
                replaced.append(draft.with_name(f"{draft.name}.old"))
                place.rename(replaced[-1])
            draft.rename(place)
    except OSError as error:
        raise TaskError(f"{out}: cannot be written: {error}") from error
    finally:
        for leftover in (*replaced, *(draft for draft, _ in drafts)):
            shutil.rmtree(leftover, ignore_errors=True)


def _write(draft: Path, folder: TaskFolder) -> None:
    draft.mkdir()
    for split, lines in folder.splits.items():
        with (draft / f"{split}.jsonl").open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    text = json.dumps(folder.about, ensure_ascii=False, indent=2)
    (draft / "task.json").write_text(text + "\n", encoding="utf-8")
