"""Checkpoints of a run, by Orbax: arrays and JSON together, whole or not there at all.

Orbax writes into a folder with another name and renames it when everything is in it, so one that
was cut off, by a kill or a full disk, is never taken for a checkpoint.
"""

import errno
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from jaxtask.errors import CheckpointError
from jaxtask.folders import check_ours

_UNFINISHED = re.compile(r"\d+\.orbax-checkpoint-tmp(-\d+)?")
_METADATA = "_CHECKPOINT_METADATA"
_PARTS = {_METADATA, "arrays", "record", "commit_success.txt"}
_MARGIN = 1 << 20  # bytes, for metadata and what others write meanwhile


class Checkpoints:
    """The last `keep` checkpoints below a folder, which is made when it is not there.

    A context manager: Orbax's threads end with it.

    Raises:
        CheckpointError: The folder cannot be used.

    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        # Imported here: comparing adapters must not pay for it.
        import orbax.checkpoint as ocp

        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            check_checkpoints(folder)
            self._discard()
            self._manager = ocp.CheckpointManager(
                folder.absolute(),
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=keep, enable_async_checkpointing=False
                ),
            )
        except OSError as error:
            told = error.strerror or error
            raise CheckpointError(f"{folder}: cannot be used for checkpoints: {told}") from error
        self._args = ocp.args

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def latest(self) -> int | None:
        """The step of the newest complete checkpoint, if there is one."""
        return self._manager.latest_step()

    def save(self, step: int, arrays: Any, record: dict[str, Any]) -> None:
        """Write a checkpoint, unless there is one of this step.

        Args:
            step: Its number; higher than any before.
            arrays: A tree of JAX or NumPy arrays, random keys included.
            record: JSON-able data.

        Raises:
            CheckpointError: It cannot be written, because the disk is full for instance. The
                checkpoints before it are as they were, and nothing of this one is left.

        """
        if step == self.latest():
            return
        self._check_room(step, arrays)
        args = self._args.Composite(
            arrays=self._args.StandardSave(arrays), record=self._args.JsonSave(record)
        )
        try:
            with _quiet():
                self._manager.save(step, args=args)
        # Orbax raises whatever its storage did: ValueError for a full disk.
        except Exception as error:
            self._discard()
            full = "No space left" in str(error)
            raise self._unwritten(step, "the disk is full" if full else str(error)) from error

    def record(self) -> dict[str, Any]:
        """The record of the newest checkpoint.

        Raises:
            CheckpointError: There is no checkpoint, or it is damaged.

        """
        return self._read("record", self._args.JsonRestore())

    def arrays(self, like: Any) -> Any:
        """The arrays of the newest checkpoint.

        Args:
            like: A tree of arrays with the shapes, types and shardings to restore to.

        Raises:
            CheckpointError: There is none, it is damaged, or it does not fit `like`.

        """
        return self._read("arrays", self._args.StandardRestore(like))

    def _read(self, what: str, how: Any) -> Any:
        step = self.latest()
        if step is None:
            raise CheckpointError(f"{self.folder}: holds no complete checkpoint")
        try:
            with _quiet():
                return self._manager.restore(step, args=self._args.Composite(**{what: how}))[what]
        # A damaged file can raise nearly anything.
        except Exception as error:
            raise CheckpointError(
                f"{self.folder / str(step)}: the checkpoint cannot be read; without that folder, "
                f"the run resumes from the previous one: {error}"
            ) from error

    def _check_room(self, step: int, arrays: Any) -> None:
        """Before the write: one that fails half-way leaves Orbax's threads in disorder."""
        need = sum(getattr(leaf, "nbytes", 0) for leaf in jax.tree.leaves(arrays)) + _MARGIN
        free = shutil.disk_usage(self.folder).free
        if free < need:
            reason = f"the disk is full: {need:,} bytes are needed, {free:,} are free"
            raise self._unwritten(step, reason)

    def _unwritten(self, step: int, reason: str) -> CheckpointError:
        kept = "none before it" if self.latest() is None else f"step {self.latest()} is intact"
        return CheckpointError(
            f"{self.folder}: the checkpoint of step {step} cannot be written ({kept}): {reason}"
        )

    def _discard(self) -> None:
        """Remove what a kill has left: of a write, or of the removal of an old checkpoint."""
        for path in self.folder.iterdir():
            if _is_left_over(path):
                shutil.rmtree(path, ignore_errors=True)


def check_checkpoints(folder: Path) -> None:
    """Raise `FileExistsError` if a folder holds anything but what Orbax has written there.

    Old ones are removed in time, and a number is all that tells a checkpoint of Orbax by its name.
    """
    check_ours(folder, ["*/**"])
    for path in folder.iterdir():
        whole = path.name.isdecimal() and (path / _METADATA).is_file()
        if not whole and not _is_left_over(path):
            told = f"holds {path.name!r:.200}, which is no checkpoint, so it is left alone"
            raise FileExistsError(errno.EEXIST, told, str(folder))


def _is_left_over(path: Path) -> bool:
    """Whether a folder is a draft, or a checkpoint that was being removed, file by file."""
    if _UNFINISHED.fullmatch(path.name):
        return True
    names = {part.name for part in path.iterdir()} if path.name.isdecimal() else {""}
    return names <= _PARTS - {_METADATA}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Orbax's own reports of errors, tracebacks of threads: they are raised here as one."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
