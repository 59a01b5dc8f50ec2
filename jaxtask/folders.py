"""Folders and files that are there whole, or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path` that takes its place if the block ends well, else vanishes.

    Its name starts with a dot, so that patterns do not find it. What a killed process left there is
    removed, or put back in its place if it is the only one.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft, old = (path.with_name(f".{path.name}.{end}") for end in ("new", "old"))
    if old.exists() and not path.exists():
        os.rename(old, path)
    for leftover in (draft, old):
        shutil.rmtree(leftover, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
        if path.exists():
            os.rename(path, old)
        os.rename(draft, path)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        if old.exists() and not path.exists():
            os.rename(old, path)
        raise


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` if the block ends well, else vanishes."""
    path = path.absolute()
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            yield file
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
