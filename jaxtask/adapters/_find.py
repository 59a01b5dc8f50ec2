"""From what the user names (folder, file, pattern, Hub id) to the files of each adapter."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jaxtask.adapters._config import CONFIG_NAME
from jaxtask.errors import AdapterError
from jaxtask.names import check_path, matching, walk

WEIGHT_NAMES = ("adapter_model.safetensors", "adapter_model.bin")
INDEX_NAMES = tuple(f"{name}.index.json" for name in WEIGHT_NAMES)
_SHARD = re.compile(r".*-[0-9]+-of-[0-9]+\.(safetensors|bin)")
# What mlx-lm and diffusers write; PEFT's own files win where both are there.
MLX_WEIGHTS = "adapters.safetensors"
_OTHER_NAMES = (MLX_WEIGHTS, "pytorch_lora_weights.safetensors")
_WEIGHT_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth"})
_NAMES = (*WEIGHT_NAMES, *INDEX_NAMES, *_OTHER_NAMES)
_OTHER_FILES = {".gguf": "a GGUF file of llama.cpp", ".nemo": "an archive of NVIDIA NeMo"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Found:
    """One adapter's files, and the path its name is taken from."""

    weights: Path
    config: Path | None
    parts: tuple[str, ...]  # of the absolute folder (or file without suffix), or of the Hub id
    depth: int  # how many last parts name it where nothing clashes
    notes: tuple[str, ...] = ()


def find_adapters(source: str | os.PathLike[str]) -> tuple[list[Found], list[str]]:
    """All adapters that `source` names, and notes on what a pattern matched beside them.

    In this order: an existing folder that is an adapter; an existing folder whose sub-folders are
    (searched to any depth, but not inside an adapter); an existing file; a pattern with ``*``,
    ``?`` or ``[``; a Hub id in the local cache. Raises `AdapterError` when nothing is found.
    """
    path = check_path(source, "adapters", AdapterError)
    text = str(path)
    if path.is_dir():
        found = _in_folder(path)
        if not found:
            raise AdapterError(
                f"{path}: holds no adapter: neither it nor a folder below it has {CONFIG_NAME} or "
                f"{WEIGHT_NAMES[0]}{_hint(path)}."
            )
        return found, []
    if path.is_file():
        return [_file(path)], []
    if glob.has_magic(text):
        return _pattern(text)
    if _HUB_ID.fullmatch(text):
        return [_hub(text)], []
    raise AdapterError(f"{path}: there is no such file or folder.")


def _hint(folder: Path) -> str:
    below = sorted(folder.iterdir())
    if others := [p.name for p in below if p.suffix in _WEIGHT_SUFFIXES]:
        return f" (to read {others[0]}, name the file itself)"
    if links := [p.name for p in below if p.is_symlink() and p.is_dir()]:
        return f" (links such as {links[0]!r:.100} are not followed: give {folder}/*)"
    return ""


def _is_adapter(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (CONFIG_NAME, *_NAMES))


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """The key that sorts numbers within names by value: checkpoint-500 before checkpoint-1000."""
    parts = re.split(r"([0-9]+)", name)
    # Numbers by their digits without leading zeros, which needs no conversion of any length.
    numbers = [part.lstrip("0") if i % 2 else part for i, part in enumerate(parts)]
    return [(len(n) if i % 2 else 0, n) for i, n in enumerate(numbers)], name


def _in_folder(folder: Path) -> list[Found]:
    if _is_adapter(folder):
        root = _folder(folder, 1)
        return [replace(root, notes=(*root.notes, *_below(folder)))]
    found = []
    try:
        for here, below, _ in walk(folder):
            if _is_adapter(here):
                below.clear()
                found.append(_folder(here, len(here.relative_to(folder).parts)))
    except OSError as error:
        raise AdapterError(f"{error.filename}: cannot be read: {error.strerror}.") from error
    found.sort(key=lambda one: [_natural(part) for part in one.parts])
    return found


def _below(folder: Path) -> list[str]:
    """Says which adapters below an adapter, such as its checkpoints, are not read."""
    more = []
    try:
        for here, below, _ in walk(folder):
            if here != folder and _is_adapter(here):
                below.clear()
                more.append(here.relative_to(folder).as_posix())
    except OSError as error:
        return [f"{error.filename} cannot be read: {error.strerror}."]
    if not more:
        return []
    more.sort(key=_natural)
    shown = f"{', '.join(more[:3])}{', …' if len(more) > 3 else ''}"
    return [f"{len(more)} more adapter(s) below it were not read: {shown:.300}."]


def _folder(folder: Path, depth: int) -> Found:
    """The adapter in `folder`; safetensors win over .bin, as in PEFT; one file over shards."""
    present = [folder / name for name in _NAMES if (folder / name).is_file()]
    if not present:
        raise AdapterError(
            f"{folder}: has {CONFIG_NAME} but no weights, expected "
            f"{' or '.join((*WEIGHT_NAMES, *_OTHER_NAMES))}."
        )
    config = folder / CONFIG_NAME
    notes = tuple(f"{file.name} is there too and was not read." for file in present[1:])
    if present[0].name == MLX_WEIGHTS and (earlier := sorted(folder.glob(f"*_{MLX_WEIGHTS}"))):
        notes += (
            f"{len(earlier)} checkpoint(s) beside it were not read: {earlier[0].name!r:.100}"
            f"{', …' if len(earlier) > 1 else ''}.",
        )
    parts = Path(os.path.abspath(folder)).parts
    return Found(present[0], config if config.is_file() else None, parts, depth, notes)


def _file(path: Path) -> Found:
    if path.name == CONFIG_NAME:
        return _folder(path.parent, 1)
    if _SHARD.fullmatch(path.name):
        raise AdapterError(
            f"{path}: is one of several parts of an adapter: give its folder, or its index "
            f"({INDEX_NAMES[0]})."
        )
    if path.name in INDEX_NAMES:
        config = path.parent / CONFIG_NAME
        parts = Path(os.path.abspath(path)).parent.parts
        return Found(path, config if config.is_file() else None, parts, 1)
    if path.suffix in _OTHER_FILES:
        raise AdapterError(f"{path}: is {_OTHER_FILES[path.suffix]}, which is not read.")
    if path.suffix not in _WEIGHT_SUFFIXES:
        raise AdapterError(
            f"{path}: is no adapter file, expected {', '.join(sorted(_WEIGHT_SUFFIXES))} or a "
            "folder."
        )
    absolute = Path(os.path.abspath(path))
    named_by_folder = path.name in _NAMES
    parts = absolute.parent.parts if named_by_folder else absolute.with_suffix("").parts
    config = path.parent / CONFIG_NAME
    return Found(path, config if config.is_file() else None, parts, 1)


def _pattern(pattern: str) -> tuple[list[Found], list[str]]:
    found: list[Found] = []
    skipped: list[str] = []
    for match in sorted(matching(pattern, AdapterError), key=_natural):
        path = Path(match)
        here = _in_folder(path) if path.is_dir() else []
        if path.is_file() and path.suffix in _WEIGHT_SUFFIXES:
            here = [_file(path)]
        found.extend(here)
        if not here:
            skipped.append(match)
    if not found:
        what = f"matches only {', '.join(skipped[:3])}" if skipped else "matches nothing"
        raise AdapterError(f"{pattern}: the pattern {what}, expected adapters.")
    # `runs/**` matches a folder and what lies in it: the same file is the same adapter.
    unique = {os.path.realpath(f.weights): f for f in reversed(found)}
    kept = [f for f in found if unique.get(os.path.realpath(f.weights)) is f]
    notes = [f"'{pattern}' also matched {name}, which is no adapter." for name in skipped]
    return kept, notes


def _hub(repository: str) -> Found:
    """An adapter in the local Hugging Face cache. Nothing is ever downloaded."""
    try:
        import huggingface_hub
    except ImportError:
        raise AdapterError(
            f"'{repository}' is no path; to look it up in the local Hugging Face cache, install "
            "huggingface_hub."
        ) from None
    for name in (CONFIG_NAME, *_NAMES):
        try:
            cached = huggingface_hub.try_to_load_from_cache(repository, name)
        except ValueError as error:  # the Hub's own check of the name
            raise AdapterError(
                f"'{repository}' is neither a path nor a valid Hub id: {error}."
            ) from error
        if isinstance(cached, str):
            found = _folder(Path(cached).parent, 2)
            return Found(found.weights, found.config, tuple(repository.split("/")), 2, found.notes)
    raise AdapterError(
        f"'{repository}' is neither a path nor an adapter in the local Hugging Face cache; nothing "
        f"is downloaded here: run `hf download {repository}` first."
    )


def name_adapters(found: Sequence[Found]) -> list[str]:
    """A name for each: its last path parts, as few as tell it apart from all others.

    Raises `AdapterError` when one file was given twice.
    """
    seen: dict[str, Found] = {}
    for one in found:
        check_path(one.weights, "adapter", AdapterError)
        real = os.path.realpath(one.weights)
        if real in seen:
            raise AdapterError(
                f"{one.weights}: was given twice; to compare an adapter with itself, give names "
                "(a mapping from name to path)."
            )
        seen[real] = one
    depths = [one.depth for one in found]
    while True:
        names = ["/".join(one.parts[-depth:]) for one, depth in zip(found, depths, strict=True)]
        clashing = [
            i
            for i, name in enumerate(names)
            if names.count(name) > 1 and depths[i] < len(found[i].parts)
        ]
        if not clashing:
            return names
        for i in clashing:
            depths[i] += 1
