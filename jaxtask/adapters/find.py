"""From what the user names (folder, file, pattern, Hub id) to the files of each adapter."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jaxtask.adapters.formats.other_kinds import ending_kind
from jaxtask.adapters.formats.peft_config import CONFIG_NAME
from jaxtask.adapters.hub import find_on_hub, is_hub
from jaxtask.adapters.tensors.stored import first_look
from jaxtask.errors import AdapterError
from jaxtask.names import check_path, matching, walk

WEIGHT_NAMES = ("adapter_model.safetensors", "adapter_model.bin")
INDEX_NAMES = tuple(f"{name}.index.json" for name in WEIGHT_NAMES)
_MODEL = re.compile(r"(pytorch_)?model(-[0-9]+-of-[0-9]+)?\.(safetensors|bin)")
_SHARD = re.compile(r".*-[0-9]+-of-[0-9]+\.(safetensors|bin)")
# What mlx-lm and diffusers write; PEFT's own files win where both are there.
MLX_WEIGHTS = "adapters.safetensors"
_OTHER_NAMES = (MLX_WEIGHTS, "pytorch_lora_weights.safetensors")
_WEIGHT_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth"})
_NAMES = (*WEIGHT_NAMES, *INDEX_NAMES, *_OTHER_NAMES)


@dataclass(frozen=True)
class Found:
    """One adapter's files, and the path its name is taken from.

    Attributes:
        parts: Parts of the absolute folder (or file without suffix), or of the Hub id.
        depth: How many last parts name it where nothing clashes.
        place: What tells it apart, where it is not the file that `weights` is.
        error: Why there is nothing to read at the path `weights`.

    """

    weights: Path
    config: Path | None
    parts: tuple[str, ...]
    depth: int
    notes: tuple[str, ...] = ()
    place: str | None = None
    error: AdapterError | None = None


def find_adapters(
    source: str | os.PathLike[str], download: bool = False
) -> tuple[list[Found], list[str]]:
    """All adapters that `source` names, and notes on what a pattern matched beside them.

    In this order: an existing folder that is an adapter; an existing folder whose sub-folders are
    (searched to any depth, but not inside an adapter); an existing file; a pattern with ``*``,
    ``?`` or ``[``; a Hub id ``org/name``, ``org/name@revision`` or a pattern ``org/prefix*``, in
    the local cache, or fetched into it with `download`. Those of several that are no adapter are
    among them with their `error`.

    Raises:
        AdapterError: Nothing is found.

    """
    path = check_path(source, "adapters", AdapterError)
    text = str(path)
    if path.is_dir():
        found = _in_folder(path)
        if not found:
            raise AdapterError(
                f"{path}: holds no adapter: neither it nor a folder below it has {CONFIG_NAME} or "
                f"{WEIGHT_NAMES[0]}{_hint(path)}"
            )
        return found, []
    if path.is_file():
        return [_file(path)], []
    if is_hub(text) and not (glob.has_magic(text) and matching(text, AdapterError)):
        return _hub(text, download)
    if glob.has_magic(text):
        return _pattern(text)
    raise AdapterError(f"{path}: there is no such file or folder")


def failed(path: str, error: AdapterError) -> Found:
    """What stands for adapters that were named and are not there."""
    parts = Path(path).parts
    return Found(Path(path), None, parts, len(parts), place=path, error=error)


def _hint(folder: Path) -> str:
    below = sorted(folder.iterdir())
    if models := [p.name for p in below if _MODEL.fullmatch(p.name)]:
        return f" ({models[0]} is a whole model; jaxtask extract makes an adapter of two)"
    if shards := [p.name for p in below if _SHARD.fullmatch(p.name)]:
        return f" ({shards[0]!r:.100} is one of several parts, whose index is missing)"
    if foreign := [p for p in below if ending_kind(p.suffix)]:
        return f" ({foreign[0].name!r:.100} is {ending_kind(foreign[0].suffix)}, which is not read)"
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
        raise AdapterError(f"{error.filename}: cannot be read: {error.strerror}") from error
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
    parts = Path(os.path.abspath(folder)).parts
    if not present:
        error = AdapterError(
            f"{folder}: has {CONFIG_NAME} but no weights, expected "
            f"{' or '.join((*WEIGHT_NAMES, *_OTHER_NAMES))}{_hint(folder)}"
        )
        return Found(folder, None, parts, depth, error=error)
    config = folder / CONFIG_NAME
    notes = tuple(f"{file.name} is there too and was not read." for file in present[1:])
    if present[0].name == MLX_WEIGHTS and (earlier := sorted(folder.glob(f"*_{MLX_WEIGHTS}"))):
        notes += (
            f"{len(earlier)} checkpoint(s) beside it were not read: {earlier[0].name!r:.100}"
            f"{', …' if len(earlier) > 1 else ''}.",
        )
    return Found(present[0], config if config.is_file() else None, parts, depth, notes)


def _file(path: Path) -> Found:
    if path.name == CONFIG_NAME:
        return _folder(path.parent, 1)
    if _SHARD.fullmatch(path.name):
        there = any((path.parent / name).is_file() for name in INDEX_NAMES)
        raise AdapterError(
            f"{path}: is one of several parts: "
            + (
                "give its folder"
                if there
                else f"their index ({' or '.join(INDEX_NAMES)}) is missing beside it"
            )
        )
    if path.name in INDEX_NAMES:
        config = path.parent / CONFIG_NAME
        parts = Path(os.path.abspath(path)).parent.parts
        return Found(path, config if config.is_file() else None, parts, 1)
    if kind := ending_kind(path.suffix):
        raise AdapterError(f"{path}: is {kind}, which is not read")
    if path.suffix not in _WEIGHT_SUFFIXES:
        first_look(path)  # says what some others are
        raise AdapterError(
            f"{path}: is no adapter file, expected {', '.join(sorted(_WEIGHT_SUFFIXES))} or a "
            "folder"
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
        here: list[Found] = []
        try:
            if path.is_dir():
                here = _in_folder(path)
            elif path.is_file() and path.suffix in _WEIGHT_SUFFIXES:
                here = [_file(path)]
        except AdapterError as error:
            here = [failed(match, error)]
        found.extend(here)
        if not here:
            skipped.append(match)
    if not found:
        what = f"matches only {', '.join(skipped[:3])}" if skipped else "matches nothing"
        raise AdapterError(f"{pattern}: the pattern {what}, expected adapters")
    # `runs/**` matches a folder and what lies in it: the same file is the same adapter.
    unique = {os.path.realpath(f.weights): f for f in reversed(found)}
    kept = [f for f in found if unique.get(os.path.realpath(f.weights)) is f]
    notes = [f"'{pattern}' also matched {name}, which is no adapter." for name in skipped]
    return kept, notes


def _hub(text: str, download: bool) -> tuple[list[Found], list[str]]:
    """Adapters of the Hugging Face Hub, in its local cache."""
    copies, notes = find_on_hub(text, _NAMES, download)
    found = []
    for copy in copies:
        if copy.error is not None:
            found.append(failed(f"{copy.owner}/{copy.name}", copy.error))
            continue
        here = _folder(copy.folder, 2)
        # Links of the cache may lead to one file from two repositories or revisions.
        place = f"{os.path.realpath(copy.folder)}/{here.weights.name}"
        parts = (copy.owner, copy.name)
        found.append(replace(here, parts=parts, notes=(*here.notes, *copy.notes), place=place))
    return found, notes


def name_adapters(found: Sequence[Found]) -> list[str]:
    """A name for each: its last path parts, as few as tell it apart from all others.

    Raises:
        AdapterError: One file was given twice.

    """
    seen: dict[str, Found] = {}
    for one in found:
        if one.error is None:
            check_path(one.weights, "adapter", AdapterError)
        real = one.place or os.path.realpath(one.weights)
        if real in seen:
            raise AdapterError(
                f"{one.weights}: was given twice; to compare an adapter with itself, give names "
                "(a mapping from name to path)"
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
