"""Files of a corpus: lines of plain and gzipped text, what lies below a folder, what they weigh."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from jaxtask.errors import CorpusError


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


def corpus_files(path: str | Path) -> list[Path]:
    """The files of a corpus: the path itself, or what lies below a folder, in order of names.

    Below a folder these are the files whose names end in ``conll`` (or ``conll.gz``), ``.jsonl`` or
    ``.parquet``; where some end in ``gold_conll``, automatic annotation beside them is left out.

    Raises:
        CorpusError: There is nothing.

    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise CorpusError(f"{path}: no such file or folder")
    endings = ("conll", "conll.gz", ".jsonl", ".parquet")
    found = sorted(p for p in path.rglob("*") if p.is_file() and p.name.endswith(endings))
    gold = [p for p in found if p.name.removesuffix(".gz").endswith("gold_conll")]
    if not found:
        raise CorpusError(f"{path}: no file below ends in {', '.join(endings)}")
    return [p for p in found if p in gold or "conll" not in p.name] if gold else found


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
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            yield file
        draft.replace(path)
    except OSError as error:
        raise CorpusError(f"{path}: cannot be written: {error}") from error
    finally:
        draft.unlink(missing_ok=True)
