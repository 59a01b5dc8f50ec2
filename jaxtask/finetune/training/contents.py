"""What a run reads, as digests: a checkpoint resumes only with the same.

Names say little: a base model's folder can hold another model tomorrow, and a chat template can
write today's date into every example.
"""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import numpy as np

from jaxtask.adapters.weight_files import weight_files
from jaxtask.errors import ModelError
from jaxtask.finetune.data.examples import EncodedTask, Example

_SHOWN = 16  # hexadecimal digits: enough to tell two apart that nobody made alike on purpose


def base_contents(path: Path) -> dict[str, str]:
    """SHA-256 of all bytes of the files that a base model is read from, by their names.

    Files are read side by side, for as many as there are CPUs: a gigabyte takes about a second of
    one CPU, and the disk its time, less than loading the model.

    Raises:
        ModelError: A file cannot be read.

    """
    files = [path] if path.is_file() else [path / "config.json", *weight_files(path)]
    try:
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            return dict(zip((file.name for file in files), pool.map(_digest, files), strict=True))
    except OSError as error:
        raise ModelError(f"{error.filename}: cannot be read: {error.strerror}") from error


def encoded_contents(task: EncodedTask) -> dict[str, str]:
    """Of each split of a task, what its batches are made of: ids, what is learned, and labels."""
    return {split: _encoded(examples) for split, examples in task.splits.items()}


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return f"sha256 {hashlib.file_digest(opened, 'sha256').hexdigest()[:_SHOWN]}"


def _encoded(examples: Sequence[Example]) -> str:
    told, tokens = hashlib.sha256(), 0
    for example in examples:
        tokens += len(example.tokens)
        told.update(f"\n{example.line.label!r}".encode())
        for field in fields(example):
            value = getattr(example, field.name)
            if isinstance(value, np.ndarray):
                told.update(f" {field.name} {value.dtype.str} {value.shape} ".encode())
                told.update(np.ascontiguousarray(value).tobytes())
            elif field.name != "line":  # its text may differ if the ids do not
                told.update(f" {field.name} {value!r}".encode())
    return f"{len(examples)} examples, {tokens} tokens, sha256 {told.hexdigest()[:_SHOWN]}"
