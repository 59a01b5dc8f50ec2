"""Text tasks from people's own data: prompts and targets in tables and conversations."""

import hashlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from jaxtask.corpora.files import fingerprint
from jaxtask.corpora.length import WORDS, Length
from jaxtask.corpora.prompt import plain_prompt
from jaxtask.corpora.tally import Tally, check_not_empty
from jaxtask.corpora.task_folder import by_split, check_free, drafts
from jaxtask.corpora.text_rows import Pair, Shape, columns, known_shape
from jaxtask.errors import TaskError, shown
from jaxtask.names import check_name
from jaxtask.version import __version__


def build_text(
    name: str,
    files: Mapping[str, str | Path],
    out: str | Path,
    *,
    prompt: str | None = None,
    target: str | None = None,
    instruction: str = "",
    dev_share: float | None = None,
    max_len: int | None = None,
    length: Length = WORDS,
    overwrite: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Build one task from rows that have prompts and targets.

    Without `prompt` and `target` the rows of each file are of the first shape that fits:
    conversations (``messages``, or ``conversations``, perhaps ``system``), ``prompt`` and
    ``completion``, or ``instruction`` and ``output``, perhaps ``input`` and ``system``.
    `jaxtask.corpora.text_rows` tells how conversations are read.

    A line has ``instruction``, ``text`` (the prompt), ``target``, ``document_id``, the file and
    line that it comes from, and ``part``, which answer of the row it is. Texts stay as they are; a
    target that is a number or a truth value is written as a label of `build_table` is. Without
    anything in prompt or target there is no example, nor where both repeat what came before in the
    split; what is dropped is counted.

    Args:
        name: Name of the task and of its folder.
        files: A file for each split: JSON lines, a JSON array, Parquet, or CSV or TSV with a
            header, by its name. A TSV file has no quoting.
        out: Folder for the task's folder.
        prompt: Name of the column with the prompt.
        target: Name of the column with the target.
        instruction: Instruction for all rows; the prompt is then the document that it is about.
            Without it, the prompt is all that there is.
        dev_share: Without a file for dev, this share of the training examples is dev, at least one:
            the prompts that come first in the order of their hashes. Rows of one prompt, and of
            conversations that begin with it, stay together.
        max_len: Longer examples are dropped and counted. None for any length.
        length: What `max_len` counts, of instruction, prompt and target together.
        overwrite: Replace a folder that is there.
        command: Recorded in ``task.json``.

    Returns:
        What ``task.json`` says.

    Raises:
        CorpusError: A file cannot be read.
        TaskError: A file's rows have other columns, a value is of a wrong type, a split is empty,
            an option has no meaning, or the folder exists.

    """
    splits = {split: Path(path) for split, path in by_split(files).items()}
    check_name(name, "task name", TaskError)
    if (prompt is None) != (target is None):
        raise TaskError("give both prompt=COLUMN and target=COLUMN, or none for known columns")
    if dev_share is not None and "dev" in splits:
        raise TaskError("dev_share=SHARE takes dev from train, but dev has a corpus of its own")
    if dev_share is not None and not 0 < dev_share < 1:
        raise TaskError(f"dev_share is {dev_share}, expected a share between 0 and 1")
    if max_len is not None and max_len < 1:
        raise TaskError(f"max_len is {max_len}, expected at least 1")
    instruction = _instruction(instruction)
    check_free(Path(out), [name], overwrite)

    given = None if prompt is None or target is None else columns(prompt, target)
    shapes = {split: given or known_shape(path) for split, path in splits.items()}
    found = {
        split: _read(path, shapes[split], instruction, max_len, length)
        for split, path in splits.items()
    }
    check_not_empty(name, {split: own.tally for split, own in found.items()})
    if dev_share is not None:
        train, dev = _parted(found["train"], dev_share)
        found = {"train": train, "dev": dev} | {s: own for s, own in found.items() if s == "test"}
    with drafts(Path(out), [name]) as (draft,):
        for split, own in found.items():
            for row in own.rows:
                draft.write(split, row.line)
        about = {
            "task": name,
            "kind": "text",
            "summary": f"Rows with the columns {', '.join(shapes['train'].columns)}",
            "unit": "row",
            "labels": None,
            "splits": {split: own.tally.counts() for split, own in found.items()},
            "jaxtask": __version__,
            "command": command,
            "instruction": instruction,
            "dev_share": dev_share,
            "max_len": max_len,
            "length": str(length),
            "corpora": {split: [fingerprint(path)] for split, path in splits.items()},
        }
        draft.finish(about)
    return about


@dataclass(frozen=True)
class _Row:
    """A line of a task, its length, and the prompt that its row of the table begins with."""

    line: dict[str, Any]
    size: int
    first: str


@dataclass(frozen=True)
class _Split:
    """What a split keeps, and what became of the rest."""

    tally: Tally = field(default_factory=Tally)
    rows: list[_Row] = field(default_factory=list)

    def add(self, row: _Row) -> None:
        self.tally.add(row.line, row.size)
        self.rows.append(row)


def _read(
    path: Path, shape: Shape, instruction: str, max_len: int | None, length: Length
) -> _Split:
    """The examples of a file."""
    split = _Split()
    seen: set[Pair] = set()
    for place, found in shape.rows(path):
        split.tally.documents += 1
        where = f"{path.name}, {place}"
        first = next((one.prompt for one in found if isinstance(one, Pair)), "")
        for part, one in enumerate(found):
            if isinstance(one, str):
                split.tally.drop(one, where)
                continue
            if one in seen:
                split.tally.drop("prompt and target of an earlier example", where)
                continue
            seen.add(one)
            size = length.count(plain_prompt(instruction, one.prompt)) + length.count(one.target)
            size += length.overhead
            if max_len is not None and size > max_len:
                split.tally.drop(f"longer than {max_len} {length.unit}", where)
                continue
            own = {"text": one.prompt, "target": one.target, "document_id": where, "part": part}
            split.add(_Row({"instruction": instruction, **own, "window": None}, size, first))
    return split


def _parted(train: _Split, share: float) -> tuple[_Split, _Split]:
    """The rest, and a share of the rows: whole prompts, at least one, never all.

    What was dropped stays counted in the rest.
    """
    groups = Counter(row.first for row in train.rows)
    if len(groups) < 2:
        raise TaskError("dev_share=SHARE needs rows of two different prompts, all have the same")
    order = sorted(groups, key=lambda text: hashlib.sha256(text.encode()).digest())[:-1]
    sizes = list(accumulate(groups[text] for text in order))
    chosen = set(order[: bisect_left(sizes, round(share * len(train.rows))) + 1])
    rest, dev = _Split(), _Split()
    for row in train.rows:
        (dev if row.first in chosen else rest).add(row)
    dev.tally.documents = len({row.line["document_id"] for row in dev.rows})
    rest.tally.documents = train.tally.documents - dev.tally.documents
    rest.tally.dropped, rest.tally.first = train.tally.dropped, train.tally.first
    return rest, dev


def _instruction(text: str) -> str:
    """What a folder can hold: white space is no instruction."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TaskError(f"the instruction {shown(text, 60)} is not UTF-8") from None
    return text.strip()
