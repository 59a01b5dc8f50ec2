"""The folder of an experiment: whose it is, who works there, and files that are whole."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from jaxtask.adapters import write as adapter_folder
from jaxtask.corpora import task_folder
from jaxtask.errors import ExperimentError
from jaxtask.finetune.run import GROUP_FILES, STACKS
from jaxtask.folders import clean, new_file
from jaxtask.names import check_path
from jaxtask.report.findings import ours
from jaxtask.reproduce.experiment import Experiment
from jaxtask.text_files import MAX_BYTES, parse_json

_MARK = "experiment.json"
# Where files and folders are made before they take their places.
_DRAFTS = ("corpora", "data", "seed*", "seed*/adapters", "seed*/adapters.work",
           "seed*/adapters.work/group-*")  # fmt: skip


@contextmanager
def holding(out: Path, about: Mapping[str, Any]) -> Iterator[None]:
    """Work in a folder alone; what a kill has left half made there goes.

    Args:
        out: The folder; made if it is not there.
        about: JSON-able data that all its contents depend on.

    Raises:
        ExperimentError: It is of something else, or another process works there.

    """
    check_path(out, "out", ExperimentError)
    try:
        file = _claim(out, about)
    except OSError as error:
        raise ExperimentError(f"{out}: cannot be used: {error.strerror}") from error
    with file:
        _lock(file, out)
        _compare(out, file.read(MAX_BYTES + 1), about)
        tidy(out)
        yield


def written(out: Path, experiment: Experiment) -> tuple[str, ...]:
    """All that an experiment has written to its folder, as `foreign` takes it."""
    seeds = [f"seed{seed}" for seed in experiment.seeds]
    return (
        _MARK,
        *("summary.json", "summary.md", "seeds-*.zarr/**"),
        *(
            f"corpora/{corpus}-{split}.{end}"
            for corpus in experiment.corpora
            for split in ("train", "dev")
            for end in ("conll", "json")
        ),
        *task_files("data", experiment.names),
        *(f"{seed}/{path}" for seed in seeds for path in seed_files(experiment.names)),
        *(f"{seed}/findings/{path}" for seed in seeds for path in ours(out / seed / "findings")),
    )


def task_files(folder: str, names: Sequence[str]) -> list[str]:
    """The files of these tasks below a folder."""
    return [f"{folder}/{name}/{file}" for name in names for file in task_folder.FILES]


def seed_files(names: Sequence[str]) -> list[str]:
    """The files of one seed's adapters and their comparison, without the findings."""
    return [
        *(f"adapters/{name}/{file}" for name in names for file in adapter_folder.FILES),
        *(f"adapters.work/{path}" for path in (STACKS, *(f"group-*/{f}" for f in GROUP_FILES))),
        *("result.zarr/**", "result.zarr.partial/**", "numbers.json", "report.html"),
    ]


def _claim(out: Path, about: Mapping[str, Any]) -> BinaryIO:
    """The file that says whose a folder is; written if the folder is empty."""
    mark = out / _MARK
    if not mark.is_file():
        if out.exists() and not out.is_dir():
            raise ExperimentError(f"{out}: is a file, expected a folder for the experiment")
        out.mkdir(parents=True, exist_ok=True)
        clean(out)
        if there := sorted(os.listdir(out)):
            raise ExperimentError(
                f"{out}: holds {there[0]!r:.200} and no experiment ({_MARK}); give an empty or a "
                "new folder"
            )
        write_json(mark, about)
    return mark.open("rb")


def tidy(out: Path, places: Sequence[str] = _DRAFTS) -> None:
    """Remove what a kill has left half made in `out`, and in the folders below it at `places`."""
    for folder in (out, *(path for pattern in places for path in sorted(out.glob(pattern)))):
        if folder.is_dir() and not folder.is_symlink():
            clean(folder)


def _lock(file: BinaryIO, out: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ExperimentError(f"{out}: another process is using it") from error


def _compare(out: Path, text: bytes, about: Mapping[str, Any]) -> None:
    there = parse_json(text, str(out / _MARK), ExperimentError)
    if not isinstance(there, dict):
        raise ExperimentError(f"{out / _MARK}: is not what an experiment writes")
    for key, value in about.items():
        if there.get(key) != value:
            raise ExperimentError(
                f"{out}: holds another experiment, whose {key} is {there.get(key)!r:.200} and "
                f"not {value!r:.200}; give another --out"
            )


def write_json(path: Path, value: Any) -> None:
    """Write a file of JSON, complete or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file, complete or not at all.

    Raises:
        ExperimentError: It cannot be.

    """
    try:
        with new_file(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise ExperimentError(f"{path}: cannot be written: {error.strerror}") from error
