"""Files of a corpus: lines of plain and gzipped text, what lies below a folder, what they weigh."""

import gzip
import hashlib
import io
import json
import re
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
_BLOCK = 1 << 16
_DECODER, _SPACE = json.JSONDecoder(), re.compile(r"[ \t\n\r]*")


def text_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line) of a text file in UTF-8, plain or gzipped by its name.

    Lines end with LF, CR LF or CR, and with nothing else; a byte-order mark is left out.

    Raises:
        CorpusError: The file cannot be read, is not gzipped as named, is not UTF-8, or holds a NUL
            character, a line of over `MAX_LINE` characters, or so much more than its size as
            gzipped text never does.

    """
    for number, line in enumerate(_pieces(path, MAX_LINE + 1), 1):
        if len(line) > MAX_LINE:
            raise CorpusError(f"{path}, line {number}: has over {MAX_LINE:,} characters")
        yield number, line


def _pieces(path: str | Path, most: int) -> Iterator[str]:
    """Lines as `text_lines` has them; longer ones in pieces of `most` characters."""
    path = check_path(path, "corpus", CorpusError)
    if not path.is_file():
        raise CorpusError(f"{path}: {'is not a regular file' if path.exists() else 'no such file'}")
    ended = read = 0
    try:
        limit = max(_FREE, _MAX_RATIO * path.stat().st_size)
        with path.open("rb") as stored:
            packed = path.suffix == ".gz"
            plain: Any = gzip.GzipFile(fileobj=stored) if packed else stored
            file = io.TextIOWrapper(plain, encoding="utf-8-sig")
            while piece := file.readline(most):
                where = f"{path}, line {ended + 1}"
                ended += piece.endswith("\n")
                read += len(piece)
                if read > limit:
                    raise CorpusError(f"{where}: unpacks to over {limit:,} characters")
                if "\0" in piece:
                    raise CorpusError(f"{where}: holds a NUL character, expected UTF-8 text")
                yield piece
    except UnicodeDecodeError as error:
        wide = error.object[:2] in (b"\xff\xfe", b"\xfe\xff")
        what = "UTF-16, expected UTF-8" if wide else f"not UTF-8 text ({error.reason})"
        raise CorpusError(f"{path}, after line {ended}: {what}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{path}, after line {ended}: cannot be read: {error}") from error


def json_lines(
    path: str | Path, error: type[JaxtaskError], each: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, object) of a file of JSON lines, blank ones left out.

    Raises:
        error: A line is no JSON object of Unicode texts; calls it `each` and its number.

    """
    for number, line in text_lines(path):
        if line.strip(" \t\n"):
            where = f"{path}, {each} {number}"
            value = parse_json(line, where, error)
            if not isinstance(value, dict):
                raise error(f"{where}: expected an object")
            yield number, value


def json_rows(path: Path, error: type[JaxtaskError]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(``line N`` or ``row N``, object) of a file of JSON lines, or of one JSON array of objects.

    Raises:
        error: It is neither of them.

    """
    if _Ahead(_pieces(path, _BLOCK)).take() == "[":
        yield from ((f"row {n}", row) for n, row in _json_array(path, error))
        return
    try:
        yield from ((f"line {n}", row) for n, row in json_lines(path, error, "line"))
    except error as found:
        raise error(f"{found} (a file holds an object per line, or one array of them)") from found


def _json_array(path: Path, error: type[JaxtaskError]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, object) of a JSON array, of which one object is in memory at a time."""
    text = _Ahead(_pieces(path, _BLOCK))
    number, sign = 0, text.take()
    while number == 0 or sign != "]":
        number += 1
        where = f"{path}, row {number}"
        if sign != ("[" if number == 1 else ","):
            raise error(f"{where}: is not valid JSON: expected ',' or ']' before it")
        begin = text.take()
        if begin == "]" and number == 1:
            break
        if begin != "{":
            raise error(f"{where}: expected an object")
        yield number, parse_json(text.object(where, error), where, error)
        sign = text.take()
    if text.take():
        raise error(f"{path}: is not valid JSON: more follows after the array's end")


class _Ahead:
    """Text that is read as it is needed."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self.pieces, self.text, self.at = pieces, "", 0

    def take(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text):
                self.at += 1
                return self.text[self.at - 1]
            if not self._more():
                return ""

    def object(self, where: str, error: type[JaxtaskError]) -> str:
        """The JSON object whose first character was taken; what is none is left to a parser."""
        self.at -= 1
        while True:
            try:
                _, end = _DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as found:
                near = len(self.text) - found.pos < 16 or found.msg.startswith("Unterminated")
                if near and len(self.text) - self.at > MAX_LINE:
                    raise error(f"{where}: has over {MAX_LINE:,} characters") from None
                if not (near and self._more()):
                    return self.text[self.at :]
            except (ValueError, RecursionError):
                return self.text[self.at :]
            else:
                begin, self.at = self.at, end
                return self.text[begin:end]

    def _more(self) -> bool:
        """Read on, as much again as is there: so that what is long is parsed few times."""
        self.text, self.at = self.text[self.at :], 0
        new, size = [], 0
        while size <= max(len(self.text), _BLOCK) and (piece := next(self.pieces, "")):
            new.append(piece)
            size += len(piece)
        self.text += "".join(new)
        return bool(new)


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
    """Check the names of columns; columns without a name are never asked for.

    Raises:
        error: Two columns have one name.

    """
    seen: set[str] = set()
    for name in names:
        if name and name in seen:
            raise error(f"{where}: two columns are named {name[:40]!r}")
        seen.add(name)


def corpus_files(path: str | Path) -> list[Path]:
    """The files of a corpus: the path itself, or what lies below a folder, in order of names.

    Below a folder these are the files whose names end in ``gold_conll`` (or ``gold_conll.gz``);
    without these, in ``conll``; without these, in ``.jsonl`` and ``.parquet``. So automatic
    annotation and summaries beside a corpus are left out. So are hidden files and folders; links to
    folders are not followed.

    Raises:
        CorpusError: There are no files.

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
