"""Names and paths that people give: what may be one, and what a pattern means."""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path

from jaxtask.errors import JaxtaskError, shown

# File systems allow 255 bytes; drafts and suffixes need some of it.
MAX_BYTES = 200
_MAX_PART, _MAX_PATH, _MAX_DEPTH = 255, 4095, 200
# What one pattern may match: far above any sweep, and a second's work.
MAX_MATCHES = 200_000


def check_name(name: object, what: str, error: type[JaxtaskError]) -> str:
    """`name`, if it can be the name of one file or folder below a given one.

    Args:
        name: What was given.
        what: What messages call it, such as ``"experiment.yaml: corpora: the name"``.
        error: What is raised.

    Raises:
        error: It is no text, empty, too long, starts with a dot or a dash, or holds a separator, a
            control character or what is not UTF-8.

    """
    if not isinstance(name, str) or not name:
        raise error(f"{what} {shown(name)}: expected a name")
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise error(f"{what} {shown(name)}: is not UTF-8") from None
    if length > MAX_BYTES:
        raise error(f"{what} {shown(name, 60)}: has {length} bytes, expected {MAX_BYTES} at most")
    if (
        name[0] in ".-"
        or name != name.strip()
        or any(c in "/\\:" or not c.isprintable() for c in name)
    ):
        raise error(
            f"{what} {name!r}: expected a name without /, \\, : and control characters that starts "
            "with neither a dot nor a dash, and neither starts nor ends with a space"
        )
    return name


def check_names(names: Iterable[object], what: str, error: type[JaxtaskError]) -> None:
    """Check that all are names, and no two are one where case does not count.

    There are disks, such as a Mac's, where `NER` and `ner` are one folder.

    Raises:
        error: One is none, or two are one.

    """
    seen: dict[str, str] = {}
    for name in names:
        own = check_name(name, what, error)
        key = unicodedata.normalize("NFC", own).casefold()
        if key in seen:
            also = f" and {seen[key]!r} differ only in case" if seen[key] != own else " comes twice"
            raise error(f"{what} {own!r}{also}, and would be one file or folder")
        seen[key] = own


def _not_utf8() -> str:
    """Why a path holds bytes that Python could not read."""
    encoding = sys.getfilesystemencoding()
    if encoding in ("utf-8", "utf8"):
        return "has bytes that are not UTF-8; rename it"
    return f"file names are {encoding} in this locale; set PYTHONUTF8=1 for others"


def check_path(path: str | os.PathLike[str], what: str, error: type[JaxtaskError]) -> Path:
    """`path`, with a ``~`` at its start as the home folder, if there can be a file of that path.

    Raises:
        error: It is empty, has a NUL character, is not UTF-8, or is too long.

    """
    text = os.path.expanduser(os.fspath(path))
    if not isinstance(text, str) or not text:
        raise error(f"{what} {shown(path)}: expected the path of a file or folder")
    if "\0" in text:
        raise error(f"{what} {shown(text)}: has a NUL character, which no path can have")
    try:
        lengths = [len(part.encode()) for part in text.split("/")]
    except UnicodeEncodeError:
        raise error(f"{what} {shown(text)}: {_not_utf8()}") from None
    whole = sum(lengths) + len(lengths)
    if max(lengths) > _MAX_PART or whole > _MAX_PATH or len(lengths) > _MAX_DEPTH:
        raise error(f"{what} {shown(text, 100)}: is longer or deeper than a path can be")
    return Path(text)


def check_below(path: object, what: str, error: type[JaxtaskError]) -> str:
    """`path`, if it leads to a file or folder below a given one: neither absolute nor with ``..``.

    Raises:
        error: For all else.

    """
    if not isinstance(path, str):
        raise error(f"{what} {shown(path)}: expected a path")
    check_path(path, what, error)
    if path[0] in "/~" or ".." in path.split("/"):
        raise error(f"{what} {shown(path)}: expected a path below its folder, without '..'")
    return path


def walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """(folder, names of folders, names of files) of a folder and all below, in order of names.

    Hidden ones are left out. Links to folders are among the folders but are not entered, nor is
    what the caller takes from the list.

    Raises:
        OSError: One cannot be read.

    """
    left = [folder]
    while left:
        here = left.pop()
        with os.scandir(here) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
        folders = [name for name in names if os.path.isdir(here / name)]
        files = [name for name in names if os.path.isfile(here / name)]
        yield here, folders, files
        left.extend(here / n for n in reversed(folders) if not os.path.islink(here / n))


def matching(pattern: str, error: type[JaxtaskError]) -> list[str]:
    """The paths that a pattern with ``*``, ``?``, ``[…]`` and ``**`` matches, each once, in order.

    ``**`` is a folder and all below it, without hidden ones and without entering links, so that
    loops of links end; at the end of a pattern it is files too. Without any of these signs it is
    the path itself, if it is there.

    Raises:
        error: A folder cannot be read, or there are over `MAX_MATCHES` matches.

    """
    found = [os.sep if pattern.startswith(os.sep) else ""]
    parts = [part for part in pattern.split(os.sep) if part]
    for n, part in enumerate(parts):
        last = n == len(parts) - 1
        further: dict[str, None] = {}
        try:
            for path in found:
                for one in _next(path, part, last):
                    further[one] = None
                    if len(further) > MAX_MATCHES:
                        raise error(f"{shown(pattern)}: matches over {MAX_MATCHES:,} paths")
        except OSError as cause:
            raise error(
                f"{shown(pattern)}: {cause.filename}: cannot be read: {cause.strerror}"
            ) from cause
        # A folder by two names in a pattern such as `a/**/**` is one.
        found = list(further)
    return found


def _next(path: str, part: str, last: bool) -> Iterator[str]:
    """What one part of a pattern matches in, or below, a path."""
    if part == "**":
        if os.path.isdir(path or "."):
            for here, _, files in walk(Path(path)):
                shorter = "" if str(here) == "." else str(here)
                yield shorter or "."
                if last:
                    yield from (os.path.join(shorter, name) for name in files)
    elif not has_magic(part):
        if os.path.lexists(os.path.join(path, part)):
            yield os.path.join(path, part)
    elif os.path.isdir(path or "."):
        try:
            names = sorted(os.listdir(path or "."))
            for name in names:
                if name.startswith(".") <= part.startswith(".") and fnmatchcase(name, part):
                    yield os.path.join(path, name)
        except re.error:  # a set such as [z-a], in some versions of Python
            return
