"""Files of a corpus: lines of plain and gzipped text, what lies below a folder, what they weigh."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from jaxtask.errors import CorpusError, JaxtaskError
from jaxtask.folders import new_file as whole_file
from jaxtask.names import check_path, walk
from jaxtask.text_files import parse_json

MAX_LINE = 1 << 24
"""Characters; what is longer is no line of a corpus."""
# Text is gzipped to a third or a tenth, to a thousandth only what is made to fill memories.
_MAX_RATIO, _FREE = 200, 64 << 20


def text_lines(path: str | Path, most: int = MAX_LINE) -> Iterator[tuple[int, str]]:
    """(number from 1, line) of a text file in UTF-8, plain or gzipped by its name.

    Lines end with LF, CR LF or CR, and with nothing else; a byte-order mark is left out.

    Raises:
        CorpusError: The file cannot be read, is not gzipped as named, is not UTF-8, or holds a NUL
            character, a line of over `most` characters, or so much more than its size as gzipped
            text never does.

    """
    path = check_path(path, "corpus", CorpusError)
    if not path.is_file():
        raise CorpusError(f"{path}: {'is not a regular file' if path.exists() else 'no such file'}")
    number = read = 0
    try:
        limit = max(_FREE, _MAX_RATIO * path.stat().st_size)
        with path.open("rb") as stored:
            packed = path.suffix == ".gz"
            plain: Any = gzip.GzipFile(fileobj=stored) if packed else stored
            file = io.TextIOWrapper(plain, encoding="utf-8-sig")
            while line := file.readline(most + 1):
                number += 1
                read += len(line)
                if len(line) > most:
                    raise CorpusError(f"{path}, line {number}: has over {most:,} characters")
                if read > limit:
                    raise CorpusError(
                        f"{path}, line {number}: unpacks to over {limit:,} characters"
                    )
                if "\0" in line:
                    raise CorpusError(
                        f"{path}, line {number}: holds a NUL character, expected UTF-8 text"
                    )
                yield number, line
    except UnicodeDecodeError as error:
        wide = error.object[:2] in (b"\xff\xfe", b"\xfe\xff")
        what = "UTF-16, expected UTF-8" if wide else f"not UTF-8 text ({error.reason})"
        raise CorpusError(f"{path}, after line {number}: {what}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{path}, after line {number}: cannot be read: {error}") from error


def json_lines(
    path: str | Path, error: type[JaxtaskError], each: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, object) of a file of JSON lines, blank ones left out.

    A line that is no JSON object of Unicode texts raises `error`, which calls it `each` and its
    number.
    """
    for number, line in text_lines(path):
        if line.strip(" \t\n"):
            where = f"{path}, {each} {number}"
            value = parse_json(line, where, error)
            if not isinstance(value, dict):
                raise error(f"{where}: expected an object")
            yield number, value


def parquet_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(number from 1, values by column) of a Parquet file.

    Raises:
        CorpusError: It cannot be read, two columns have one name, or pyarrow is not there.

    """
    try:
        from pyarrow import ArrowException  # type: ignore[import-not-found,import-untyped,unused-ignore]
        from pyarrow.parquet import ParquetFile  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ModuleNotFoundError as error:
        raise CorpusError(
            f"{path}: Parquet needs pyarrow: pip install 'jaxtask[parquet]', or give JSON lines"
        ) from error
    if not path.is_file():
        raise CorpusError(f"{path}: {'is not a regular file' if path.exists() else 'no such file'}")
    number = 0
    try:
        with ParquetFile(path) as file:
            check_columns(file.schema_arrow.names, str(path), CorpusError)
            for batch in file.iter_batches(batch_size=16):
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
    except CorpusError:
        raise
    # Values that Python cannot hold (dates, wrong UTF-8) raise ValueError and OverflowError.
    except (ArrowException, OSError, ValueError, OverflowError) as error:
        said = " ".join(str(error).split())[:200]
        raise CorpusError(f"{path}, after record {number}: cannot be read: {said}") from error


def check_columns(names: list[str], where: str, error: type[JaxtaskError]) -> None:
    """Raise `error` if two columns have one name; columns without a name are never asked for."""
    seen: set[str] = set()
    for name in names:
        if name and name in seen:
            raise error(f"{where}: two columns are named {name[:40]!r}")
        seen.add(name)


def corpus_files(path: str | Path) -> list[Path]:
    """The files of a corpus: the path itself, or what lies below a folder, in order of names.

    Below a folder these are the files whose names end in ``gold_conll`` (or ``gold_conll.gz``); for
    want of these, in ``conll``; for want of these, in ``.jsonl`` and ``.parquet``. So automatic
    annotation and summaries beside a corpus are left out. So are hidden files and folders; links to
    folders are not followed.

    Raises:
        CorpusError: There is nothing.

    """
    path = check_path(path, "corpus", CorpusError)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise CorpusError(f"{path}: no such file or folder")
    try:
        below = sorted(here / name for here, _, names in walk(path) for name in names)
    except OSError as error:
        raise CorpusError(f"{error.filename}: cannot be read: {error.strerror}") from error
    for endings in (("gold_conll",), ("conll",), (".jsonl", ".parquet")):
        found = [p for p in below if p.name.removesuffix(".gz").endswith(endings)]
        if found:
            return [check_path(p, "corpus", CorpusError) for p in found]
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
