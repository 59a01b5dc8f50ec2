"""Text tasks from people's own data: prompts and targets in tables and conversations."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxtask.corpora.files import fingerprint
from jaxtask.corpora.length import WORDS, Length
from jaxtask.corpora.prompt import plain_prompt
from jaxtask.corpora.tally import Tally, check_not_empty
from jaxtask.corpora.task_folder import by_split, check_free, drafts
from jaxtask.corpora.text_rows import Pair, Shape, Without, columns, pairs, unread
from jaxtask.errors import TaskError
from jaxtask.names import check_name
from jaxtask.version import __version__


def build_text(
    name: str,
    files: Mapping[str, str | Path | Sequence[str | Path]],
    out: str | Path,
    *,
    prompt: str | None = None,
    target: str | None = None,
    instruction: str = "",
    dev_share: float | None = None,
    seed: int = 0,
    max_len: int | None = None,
    length: Length = WORDS,
    overwrite: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Build one task from rows that each have a prompt and a target.

    Without `prompt` and `target` the rows are of a known shape: conversations (``messages`` or
    ``conversations``), ``prompt`` and ``completion``, or ``instruction``, perhaps ``input``, and
    ``output``; how they are read is told in `jaxtask.corpora.text_rows`.

    A line has ``instruction``, ``text`` (the prompt), ``target`` and ``document_id``, the file and
    line that it comes from. Texts stay as they are; a target that is a number or a truth value is
    what JSON writes of it. Rows with nothing in prompt or target, and rows that repeat both of an
    earlier one of their split, are dropped and counted.

    Args:
        name: Name of the task and of its folder.
        files: A file for each split, or several: JSON lines or arrays, Parquet, or CSV or TSV with
            a header, by their names. A TSV file has no quoting.
        out: Folder for the task's folder.
        prompt: Name of the column with the prompt.
        target: Name of the column with the target.
        instruction: What all rows ask for; the prompt is then its document. Without it, the prompt
            is all that there is.
        dev_share: Without a file for dev, this share of the training rows is dev, at least one:
            those whose prompts come first in the order of their hashes with `seed`. Rows of one
            prompt stay together.
        seed: See `dev_share`.
        max_len: Longer rows are dropped and counted. None for any length.
        length: What `max_len` counts.
        overwrite: Replace a folder that is there.
        command: Recorded in ``task.json``.

    Returns:
        What ``task.json`` says.

    Raises:
        CorpusError: A file cannot be read.
        TaskError: A file lacks a column, a value is of a wrong type, a split is empty, an option
            has no meaning, or the folder exists.

    """
    splits = {split: _paths(given) for split, given in by_split(files).items()}
    check_name(name, "task name", TaskError)
    shape = _given_shape(prompt, target)
    instruction = _instruction(instruction)
    _check_share(dev_share, seed, splits)
    if max_len is not None and max_len < 1:
        raise TaskError(f"max_len is {max_len}, expected at least 1")
    check_free(Path(out), [name], overwrite)

    read = {split: _Split() for split in splits}
    shapes: list[dict[str, Any]] = []
    for split, paths in splits.items():
        for path in paths:
            found, rows = pairs(path, shape)
            for row in rows:
                read[split].take(row, instruction, max_len, length)
            own = {"rows": found.name, "read": [*found.needs, *found.also]}
            shapes.append({"path": str(path), **own, "not read": unread(path, found)})
    check_not_empty(name, {split: own.tally for split, own in read.items()})
    if dev_share is not None:
        read["dev"] = read["train"].part(dev_share, seed)
        read = {split: read[split] for split in ("train", "dev", "test") if split in read}
    known = {line["text"] for line, _ in read["train"].kept}
    with drafts(Path(out), [name]) as (draft,):
        for split, own_split in read.items():
            for line, size in own_split.kept:
                own_split.tally.add(line, size)
                draft.write(split, line)
        counts = {split: own.tally.counts() for split, own in read.items()}
        for split in read.keys() - {"train"}:
            same = sum(line["text"] in known for line, _ in read[split].kept)
            counts[split]["prompts in train"] = same
        about = {
            "task": name,
            "kind": "text",
            "summary": "Rows of prompts and targets",
            "unit": "row",
            "labels": None,
            "splits": counts,
            "jaxtask": __version__,
            "command": command,
            "instruction": instruction,
            "columns": shapes,
            "dev_share": None if dev_share is None else {"share": dev_share, "seed": seed},
            "max_len": max_len,
            "length": str(length),
            "corpora": {split: [fingerprint(p) for p in paths] for split, paths in splits.items()},
        }
        draft.finish(about)
    return about


@dataclass
class _Split:
    """Rows of one split: what is kept, with sizes, and what is not."""

    tally: Tally = field(default_factory=Tally)
    kept: list[tuple[dict[str, Any], int]] = field(default_factory=list)
    seen: set[tuple[str, str]] = field(default_factory=set)

    def take(self, row: Pair | Without, instruction: str, max_len: int | None, length: Length) -> None:
        """Keep a row, or count why it is dropped."""
        self.tally.documents += 1
        if isinstance(row, Without):
            self.tally.drop(row.reason, row.where)
            return
        if (row.prompt, row.target) in self.seen:
            self.tally.drop("prompt and target of an earlier row", row.where)
            return
        self.seen.add((row.prompt, row.target))
        size = length.count(plain_prompt(instruction, row.prompt)) + length.count(row.target)
        size += length.overhead
        if max_len is not None and size > max_len:
            self.tally.drop(f"longer than {max_len} {length.unit}", row.where)
            return
        line = {"instruction": instruction, "text": row.prompt, "target": row.target}
        line |= {"document_id": row.where, "part": 0, "window": None}
        self.kept.append((line, size))

    def part(self, share: float, seed: int) -> "_Split":
        """Take rows out: whole prompts, in the order of their hashes, until it is the share."""
        prompts = {line["text"] for line, _ in self.kept}
        if len(prompts) < 2:
            raise TaskError("a dev share needs rows of two different prompts, found one")
        by_prompt: dict[str, int] = {}
        for line, _ in self.kept:
            by_prompt[line["text"]] = by_prompt.get(line["text"], 0) + 1
        wanted, taken, dev = max(1, round(share * len(self.kept))), 0, set[str]()
        for text in sorted(prompts, key=lambda text: _rank(text, seed))[: len(prompts) - 1]:
            if taken >= wanted:
                break
            dev.add(text)
            taken += by_prompt[text]
        out = _Split(kept=[one for one in self.kept if one[0]["text"] in dev])
        self.kept = [one for one in self.kept if one[0]["text"] not in dev]
        out.tally.documents = len(out.kept)
        self.tally.documents -= len(out.kept)
        return out


def _rank(text: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {text}".encode()).digest()
