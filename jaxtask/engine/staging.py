"""A result in the making: a folder beside its place, which a kill leaves as it was.

    result.zarr.partial/
        lock             held by every process that writes
        manifest.json    what is being computed
        result/          the Zarr group, chunk by chunk
        done/17          module 17 is written: the sizes of its chunks
        stopped          one of several processes has ended badly
        replaced/        what was in the result's place, for a moment

The lock is the operating system's (`flock`), so it ends with its process. Who prepares a draft
holds it alone; then all who write chunks hold it together.
"""

import fcntl
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jaxtask.engine.schema_check import foreign
from jaxtask.errors import ResultError
from jaxtask.text_files import read_object

_FOLDERS = {"result", "done", "replaced"}
_OURS = {"lock", "manifest.json", "manifest.json.new", "stopped"} | _FOLDERS
_DONE = re.compile(r"\d+(\.new)?")
_LOCK = re.compile(rb"(\d+ on .*)?", re.DOTALL)


class Draft:
    """The draft of the result at `target`."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.absolute().with_name(f"{target.name}.partial")
        self.result = self.folder / "result"
        self._done, self._manifest = self.folder / "done", self.folder / "manifest.json"
        self._lock: int | None = None
        self._state: os.stat_result | None = None

    @contextmanager
    def writing(self, *, alone: bool) -> Iterator[None]:
        """Hold the lock, alone or with the other processes of one comparison.

        Raises:
            ResultError: Another comparison writes there, or the folder is not a draft.

        """
        self._lock = self._acquire(fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        self._state = os.fstat(self._lock)
        try:
            yield
        finally:
            os.close(self._lock)
            self._lock = None

    def share(self) -> None:
        """Let the other processes of this comparison in."""
        assert self._lock is not None
        self._flock(self._lock, fcntl.LOCK_SH)

    def recover(self) -> None:
        """End what a kill has cut off in the midst of `finish`."""
        if (self.folder / "replaced").exists() and not self.target.exists():
            os.rename(self.result, self.target)
        if not self.result.exists():
            self.clear()

    def manifest(self) -> dict[str, Any] | None:
        """What the draft is of, or None where there is none yet."""
        if not self._manifest.exists():
            return None
        found = read_object(self._manifest, ResultError)
        if not _is_manifest(found):
            raise ResultError(f"{self._manifest} is not of the form that a comparison writes")
        return found

    def begin(self, manifest: Mapping[str, Any]) -> None:
        """Say what the draft is of, once its empty group is there."""
        self._done.mkdir()
        empty = sorted(self._files())
        for path in empty:
            sync(self.result / path)
        new = self.folder / "manifest.json.new"
        new.write_text(json.dumps({**manifest, "empty": empty}), encoding="utf-8")
        sync(new)
        os.rename(new, self._manifest)

    def mark(self, module: int, sizes: Mapping[str, int]) -> None:
        """Say that a module is written: its chunks, below `result`, and their sizes in bytes."""
        new = self._done / f"{module}.new"
        new.write_text(json.dumps(sizes), encoding="utf-8")
        os.rename(new, self._done / str(module))

    def check(self) -> None:
        """Take back the marks of modules whose chunks are not there as they were written.

        Chunks without a mark go, and what else a kill has left between them.
        """
        (self.folder / "stopped").unlink(missing_ok=True)
        begun = self.manifest()
        whole = set(begun["empty"]) if begun else set()
        for mark in self._done.iterdir():
            try:
                sizes = read_object(mark, ResultError)
                fine = all((self.result / p).stat().st_size == n for p, n in sizes.items())
            except (OSError, ValueError):
                fine = False
            if fine and not mark.suffix:
                whole |= sizes.keys()
            else:
                mark.unlink()
        for path in self._files() - whole:
            (self.result / path).unlink()

    def done(self) -> set[int]:
        """The modules that are written."""
        with suppress(FileNotFoundError):
            return {int(name) for name in os.listdir(self._done) if name.isdecimal()}
        return set()

    def stop(self) -> None:
        """Say to the other processes that this one has ended badly."""
        with suppress(OSError):
            (self.folder / "stopped").touch()

    def check_others(self) -> None:
        """Raise a `ResultError` if one of the other processes has ended badly."""
        if (self.folder / "stopped").exists():
            raise ResultError(f"{self.target}: another process of this comparison has stopped")

    def ended(self) -> bool:
        """Whether the draft that this object wrote to is no more."""
        assert self._state is not None
        return not self._is_there(self._state)

    def finish(self) -> None:
        """Put the result in its place, and remove the rest."""
        sync(self.result)
        if self.target.exists():
            if other := foreign(self.target):
                raise ResultError(
                    f"{self.target} is left alone: it holds {other!r:.200}, no part of a result"
                )
            os.rename(self.target, self.folder / "replaced")
        os.rename(self.result, self.target)
        sync(self.folder.parent)
        self.remove()

    def clear(self) -> None:
        """Start over: only the lock stays."""
        # The manifest first: without it, what is left is nobody's.
        self._manifest.unlink(missing_ok=True)
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()

    def remove(self) -> None:
        """Remove the draft as a whole, its lock last."""
        self.clear()
        (self.folder / "lock").unlink()
        with suppress(OSError):  # another comparison may have begun here
            self.folder.rmdir()

    def _files(self) -> set[str]:
        """All files of the result, by their path in it."""
        found = (path for path in self.result.rglob("*") if path.is_file())
        return {str(path.relative_to(self.result)) for path in found}

    def _acquire(self, how: int) -> int:
        try:
            while True:
                self.folder.mkdir(exist_ok=True)
                self._check_ours()
                lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
                try:
                    self._flock(lock, how)
                    if self._is_there(os.fstat(lock)):
                        if how == fcntl.LOCK_EX:
                            os.ftruncate(lock, 0)
                            os.pwrite(lock, f"{os.getpid()} on {socket.gethostname()}".encode(), 0)
                        return lock
                except BaseException:
                    os.close(lock)
                    raise
                os.close(lock)  # its draft was finished in between
        except OSError as error:
            raise ResultError(f"{self.folder} cannot be written: {error.strerror}") from error

    def _flock(self, lock: int, how: int) -> None:
        try:
            fcntl.flock(lock, how | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.pread(lock, 200, 0).decode() or "unknown"
            raise ResultError(
                f"{self.target} is being written by another process ({who})"
            ) from None

    def _is_there(self, lock: os.stat_result) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(lock, os.stat(self.folder / "lock"))
        return False

    def _check_ours(self) -> None:
        if other := self._foreign():
            raise ResultError(
                f"{self.folder} is in the way: it holds {other!r:.200}, which is no part of an "
                "unfinished comparison"
            )

    def _foreign(self) -> str | None:
        """The first path in the folder that no comparison writes there, or None."""
        for name in sorted(os.listdir(self.folder)):
            path = self.folder / name
            if name not in _OURS or path.is_symlink() or path.is_dir() != (name in _FOLDERS):
                return name
            with suppress(FileNotFoundError):  # another process may end just now
                if name in ("result", "replaced") and (other := foreign(path, draft=True)):
                    return f"{name}/{other}"
                if name == "done":
                    for mark in sorted(os.listdir(path)):
                        if not _DONE.fullmatch(mark) or not (path / mark).is_file():
                            return f"{name}/{mark}"
                if name == "lock" and not _LOCK.fullmatch(path.read_bytes()[:400]):
                    return name
        return None


@contextmanager
def disk_errors(target: Path) -> Iterator[None]:
    """A full disk, or another reason not to write, as one clear error."""
    try:
        yield
    except OSError as error:
        raise ResultError(f"cannot write {target}: {error.strerror or error}") from error


def _is_manifest(found: dict[str, Any]) -> bool:
    adapters, empty = found.get("adapters"), found.get("empty")
    return (
        isinstance(adapters, dict)
        and all(isinstance(digest, str) for digest in adapters.values())
        and isinstance(empty, list)
        and all(isinstance(path, str) for path in empty)
        and isinstance(found.get("identity"), dict)
        and type(found.get("budget")) is int
        and type(found.get("known")) is int
        and 0 <= found["known"] <= len(adapters)
    )


def sync(path: Path) -> None:
    """Have what was written to a file or a folder's list of names reach the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
