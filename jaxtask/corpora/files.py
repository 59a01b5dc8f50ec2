"""Files of a corpus: lines of plain and gzipped text, what lies below a folder, what they weigh."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from jaxtask.errors import CorpusError, JaxtaskError
from jaxtask.folders import new_file as whole_file


def text_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line) of a text file in UTF-8, plain or gzipped by its name.

    Raises:
        CorpusError: The file cannot be read, is not gzipped as named, or is not UTF-8.

    """
    path = Path(path)
    opener = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                yield number, line
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path}, after line {number}: not UTF-8 text ({error.reason})"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{path}, after line {number}: cannot be read: {error}") from error


def json_lines(
    path: str | Path, error: type[JaxtaskError], each: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, object) of a file of JSON lines, blank ones left out.

    A line that is no JSON object raises `error`, which calls it `each` and its number.
    """
    for number, line in text_lines(path):
        if line.strip():
            try:
                value = json.loads(line)
            except json.JSONDecodeError as reason:
                raise error(f"{path}, {each} {number}: not JSON: {reason}") from reason
            if not isinstance(value, dict):
                raise error(f"{path}, {each} {number}: expected an object")
            yield number, value


def corpus_files(path: str | Path) -> list[Path]:
    """The files of a corpus: the path itself, or what lies below a folder, in order of names.

    Below a folder these are the files whose names end in ``gold_conll`` (or ``gold_conll.gz``); for
    want of these, in ``conll``; for want of these, in ``.jsonl`` and ``.parquet``. So automatic
    annotation and summaries beside a corpus are left out.

    Raises:
        CorpusError: There is nothing.

    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise CorpusError(f"{path}: no such file or folder")
    below = sorted(p for p in path.rglob("*") if p.is_file())
    for endings in (("gold_conll",), ("conll",), (".jsonl", ".parquet")):
        found = [p for p in below if p.name.removesuffix(".gz").endswith(endings)]
        if found:
            return found
    raise CorpusError(f"{path}: no file below ends in conll, .jsonl or .parquet")


def fingerprint(path: Path) -> dict[str, Any]:
    """Path, size in bytes and SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"path": str(path), "bytes": path.stat().st_size, "sha256": digest.hexdigest()}


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` at the end; nothing is left on failure.

    Raises:
        CorpusError: It cannot be written.

    """
    try:
        with whole_file(path) as file:
            yield file
    except OSError as error:
        raise CorpusError(f"{path}: cannot be written: {error}") from error
