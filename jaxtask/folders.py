"""Folders and files that are there whole or not at all; what others wrote is never removed.

Work is done in a draft beside its place, a hidden folder that carries a mark::

    .NAME.jaxtask-k3x9q2wz/
        draft    the mark, locked by the process at work
        new      what is being made
        old      what was in its place, for a moment

A draft whose process is gone is what a kill has left, and goes. All else that lies there, whatever
its name, is somebody's. A folder that is to be replaced goes only if all in it is known to be ours.
"""

import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from jaxtask.errors import JaxtaskError
from jaxtask.names import check_path

_MARK, _NEW, _OLD = "draft", "new", "old"
MARKED = b"A draft of jaxtask: removed when its process is gone.\n"
"""What a mark says."""
_NAME = re.compile(r"\.(.+)\.jaxtask-[a-z0-9_]{8}", re.DOTALL)


@contextmanager
def new_folder(path: Path, ours: Collection[str] = ()) -> Iterator[Path]:
    """An empty folder that takes the place of `path` if the block ends well, else vanishes.

    It is made beside `path`, or beside what that links to.

    Args:
        path: The place; its parents are made if they are not there, and vanish with it.
        ours: What a folder that is replaced may hold; see `foreign`.

    Raises:
        OSError: It cannot be made; `FileExistsError` if `path` is a file or holds anything else.

    """
    path = Path(os.path.realpath(path))
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        clean(path.parent, path.name)
        check_ours(path, ours)
        with _draft(path) as draft:
            (draft / _NEW).mkdir()
            yield draft / _NEW
            # Again, for what came meanwhile.
            check_ours(path, ours)
            if path.exists():
                os.rename(path, draft / _OLD)
            os.rename(draft / _NEW, path)
    except BaseException:
        for parent in made:
            with suppress(OSError):  # unless there is something in it by now
                parent.rmdir()
        raise


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` if the block ends well, else vanishes.

    It is made beside `path`, or beside what that links to, in a folder that is there.

    Raises:
        OSError: It cannot be made.

    """
    path = Path(os.path.realpath(path))
    clean(path.parent, path.name)
    with _draft(path) as draft:
        with (draft / _NEW).open("wb") as file:
            yield file
        os.replace(draft / _NEW, path)


def check_ours(folder: Path, ours: Collection[str]) -> None:
    """Check that `folder` is not there, or is a folder that holds what is `ours`.

    Raises:
        FileExistsError: It is a file, or holds anything else.

    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(errno.EEXIST, "there is a file of that name", str(folder))
    if found := foreign(folder, ours):
        told = f"holds {found!r:.200}, which jaxtask did not write, so it is left alone"
        raise FileExistsError(errno.EEXIST, told, str(folder))


def check_parent(path: Path, error: type[JaxtaskError]) -> None:
    """Raise unless `path` is in a folder that is there and can be written to.

    Raises:
        JaxtaskError: Of the kind `error`.

    """
    check_path(path, "out", error)
    parent = path.absolute().parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise error(f"cannot write {path}: {parent} is no folder that can be written to")


def check_replaceable(
    folder: Path,
    what: str,
    error: type[JaxtaskError],
    *,
    ours: Collection[str],
    marks: Collection[str] = (),
    overwrite: bool,
) -> None:
    """Raise unless something may be written to `folder`, without touching it.

    What is there may be replaced if it was written here, with nothing of others in it.

    Args:
        folder: The place.
        what: What is written, with its article, for messages: "an adapter".
        error: The kind of what is raised.
        ours: What it may hold; see `foreign`.
        marks: Files that all such folders have, of which the last says that jaxtask wrote it.
        overwrite: Whether what was written here may be replaced.

    Raises:
        JaxtaskError: Of the kind `error`; the path is none, or what is there stays.

    """
    check_path(folder, "out", error)
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise error(f"{folder} exists and is not a folder; it is left alone")
    for mark in marks:
        if not (folder / mark).is_file():
            raise error(
                f"{folder} exists and is not {what} that jaxtask wrote (it has no {mark}); it is "
                "left alone"
            )
    try:
        other = foreign(folder, ours)
    except OSError as cause:
        raise error(f"{folder}: cannot be read: {cause.strerror}") from cause
    if other:
        raise error(
            f"{folder} exists and holds {other!r:.200}, which is no part of {what}; it is left "
            "alone"
        )
    if not overwrite:
        raise error(f"{folder} exists; give overwrite=True to replace it")


def foreign(folder: Path, ours: Collection[str]) -> str | None:
    """The first path below `folder` that is not among `ours`, or None.

    Args:
        folder: It is there.
        ours: Paths below it, with ``*`` and ``?`` in any of their names. A last ``**`` is all that
            lies below. Folders on the way are ours as well, links never.

    """
    return _foreign(folder, (), [tuple(pattern.split("/")) for pattern in ours])


def clean(folder: Path, name: str | None = None) -> None:
    """Remove drafts that killed processes have left in a folder: of one name, or of all.

    Whatever was in the way of a draft, and is now the only one, is put back in its place.
    """
    with os.scandir(folder) as entries:
        drafts = [entry for entry in entries if _NAME.fullmatch(entry.name)]
    for entry in drafts:
        of = _NAME.fullmatch(entry.name)[1]  # type: ignore[index]
        if name in (None, of) and entry.is_dir(follow_symlinks=False):
            mark = _abandoned(Path(entry.path))
            if mark is not None:
                try:
                    _remove(Path(entry.path), folder / of)
                finally:
                    os.close(mark)


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.jaxtask-", dir=path.parent))
    # Locked before it has its name: a mark without a lock has no living process.
    mark = os.open(draft / f"{_MARK}.new", os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        os.write(mark, MARKED)
        # Without locks (some network disks) nobody takes the draft for a leftover either.
        with suppress(OSError):
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(draft / f"{_MARK}.new", draft / _MARK)
        yield draft
    finally:
        try:
            _remove(draft, path)
        finally:
            os.close(mark)


def _abandoned(draft: Path) -> int | None:
    """The mark of a draft, now locked by this process; None if it has none or is at work."""
    try:
        mark = os.open(draft / _MARK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with suppress(OSError):
        if stat.S_ISREG(os.fstat(mark).st_mode) and os.read(mark, 100) == MARKED:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return mark
    os.close(mark)
    return None


def _remove(draft: Path, place: Path) -> None:
    """A draft goes; what it had moved away from `place` goes back if nothing took its place."""
    if (draft / _OLD).exists() and not place.exists():
        os.rename(draft / _OLD, place)
    # What cannot be removed now keeps its mark, and is tried again the next time.
    with suppress(OSError):
        for path in (draft / _NEW, draft / _OLD):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        for path in (draft / f"{_MARK}.new", draft / _MARK):
            path.unlink(missing_ok=True)
        draft.rmdir()


def _foreign(
    here: Path, below: tuple[str, ...], patterns: Collection[tuple[str, ...]]
) -> str | None:
    with os.scandir(here) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        parts = (*below, entry.name)
        folder = entry.is_dir(follow_symlinks=False)
        fits = [p for p in patterns if _fits(parts, p, folder)]
        if entry.is_symlink() or not fits:
            return "/".join(parts)
        if folder and not any(len(p) == len(parts) for p in fits):
            other = _foreign(Path(entry.path), parts, fits)
            if other is not None:
                return other
    return None


def _fits(parts: tuple[str, ...], pattern: tuple[str, ...], folder: bool) -> bool:
    """Whether a pattern speaks of a path, or of some below it if it is a folder."""
    if len(pattern) < len(parts) or not all(map(fnmatchcase, parts, pattern)):
        return False
    return pattern[len(parts) - 1] == "**" or folder == (len(pattern) > len(parts))
