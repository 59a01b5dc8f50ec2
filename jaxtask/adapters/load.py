"""Reading adapters: the one entry point for files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxtask.adapters.adapter import Adapter
from jaxtask.adapters.bank import AdapterBank
from jaxtask.adapters.find import Found, failed, find_adapters, name_adapters
from jaxtask.adapters.formats.diffusers import is_diffusers, read_diffusers
from jaxtask.adapters.formats.kohya import is_kohya, read_kohya
from jaxtask.adapters.formats.mlx import is_mlx, is_mlx_config, read_mlx
from jaxtask.adapters.formats.other_kinds import held_instead
from jaxtask.adapters.formats.peft import read_peft
from jaxtask.adapters.formats.peft_config import CONFIG_NAME, check_config
from jaxtask.adapters.origin import add_origin
from jaxtask.adapters.tensors.shards import read_tensors
from jaxtask.errors import AdapterError, shown
from jaxtask.text_files import read_object

# Of a tensor's name: far above all that models have.
_LONGEST = 500
PathLike = str | os.PathLike[str]


def load_adapters(
    source: Mapping[str, PathLike] | Sequence[PathLike] | PathLike,
    *,
    directional: bool = False,
    allow_base_mismatch: bool = False,
    skip_unreadable: bool = False,
    download: bool = False,
) -> AdapterBank:
    """Opens adapters as a bank of tasks. Reads headers only; factors are read when asked for.

    Args:
        source: One path, several, or a mapping from task names to paths. A path is an adapter
            folder (``adapter_config.json`` with PEFT's ``adapter_model.safetensors`` or ``.bin``,
            or with mlx-lm's ``adapters.safetensors``; or diffusers'
            ``pytorch_lora_weights.safetensors``), a single weights file (kohya's and diffusers'
            need no config), a folder with adapters in
            sub-folders (each is a task, named by its relative path; an adapter's own sub-folders,
            such as checkpoints, are not searched), a pattern with ``*``, or a Hugging Face Hub id
            ``org/name``, ``org/name@revision`` or pattern ``org/prefix*``, which is looked for in
            the local cache.
            Without a mapping, tasks are named by their folder, with as much of the path in front
            as tells equal names apart. A mapping's path with several adapters below it gives
            tasks ``name/relative path``.
        directional: Take s·B·A also from kinds whose ΔW is more than that (DoRA, PiSSA, …); the
            adapter's ``provenance["approximate"]`` then says so.
        allow_base_mismatch: Allow adapters that name different base models.
        skip_unreadable: Leave out adapters that are refused and paths that name none, each with a
            note in the bank, rather than raise; it raises still if none is left.
        download: Ask the Hub for ids that are no paths, and fetch into the local cache what it
            lacks: configs and adapters' weights, no other file. Nothing is downloaded otherwise.

    Raises:
        AdapterError: For everything that is not understood: nothing of a file is dropped silently.
            Names the file and the tensor or field. Where several adapters are refused, one error
            names them all.

    """
    found: list[Found] = []
    names: list[str] = []
    notes: list[str] = []
    if isinstance(source, Mapping):
        for name, path in source.items():
            here, more = _find(path, download)
            found.extend(here)
            notes.extend(more)
            below = name_adapters(here)
            names.extend([name] if len(here) == 1 else [f"{name}/{part}" for part in below])
    else:
        paths = [source] if isinstance(source, str | os.PathLike) else list(source)
        for path in paths:
            here, more = _find(path, download)
            found.extend(here)
            notes.extend(more)
        names = name_adapters(found)
    adapters: list[Adapter] = []
    errors: list[AdapterError] = []
    for name, files in zip(names, found, strict=True):
        try:
            adapters.append(_read(name, files, directional))
        except AdapterError as error:
            errors.append(error)
    if errors and not (skip_unreadable and adapters):
        raise _together(errors, len(found))
    notes.extend(f"skipped: {error}" for error in errors)
    return AdapterBank(adapters, allow_base_mismatch=allow_base_mismatch, notes=notes)


def _find(path: PathLike, download: bool) -> tuple[list[Found], list[str]]:
    try:
        return find_adapters(path, download)
    except AdapterError as error:
        return [failed(os.fsdecode(path), error)], []


def _together(errors: list[AdapterError], of: int) -> AdapterError:
    """One error for all; each message names its file."""
    if len(errors) == 1:
        return errors[0]
    told = "; ".join(str(error) for error in errors)
    return AdapterError(f"{len(errors)} of {of} adapters cannot be read: {told}")


def _read(name: str, files: Found, directional: bool) -> Adapter:
    """One adapter from its files."""
    if files.error is not None:
        raise files.error
    weights: Path = files.weights
    # The config comes first: what kind of adapter it is explains what its tensors are.
    fields = None if files.config is None else read_object(files.config, AdapterError)
    mlx = fields is not None and is_mlx_config(fields)
    config = None
    if files.config is not None and fields is not None and not mlx:
        config = check_config(files.config, fields)
    tensors, metadata = read_tensors(weights)
    if long := next((tensor for tensor in tensors if len(tensor) > _LONGEST), None):
        raise AdapterError(f"{weights}: no module has a name such as {shown(long, 80)}")
    if instead := held_instead(tensors):
        raise AdapterError(f"{weights}: {instead}")
    notes = list(files.notes)
    if mlx and files.config is not None and fields is not None:
        adapter = read_mlx(name, weights, tensors, files.config, fields, notes, directional)
        add_origin(adapter, weights.parent)
        return adapter
    if config is None and is_kohya(tensors):
        return read_kohya(name, weights, tensors, metadata)
    if config is None and is_diffusers(tensors, metadata):
        return read_diffusers(name, weights, tensors, metadata, notes, directional)
    if config is None:
        if is_mlx(tensors):
            raise AdapterError(
                f"{weights}: MLX tensors need {weights.parent / CONFIG_NAME} for their scaling, "
                "which is missing"
            )
        if any(".lora_" in tensor for tensor in tensors):
            raise AdapterError(
                f"{weights}: PEFT tensors need {weights.parent / CONFIG_NAME} for their scaling, "
                "which is missing"
            )
        raise AdapterError(
            f"{weights}: holds neither PEFT's (lora_A, lora_B) nor kohya's (lora_down, lora_up) "
            "tensors, nor diffusers' (unet.….lora_A, …), and there is no "
            f"{weights.parent / CONFIG_NAME}"
        )
    adapter = read_peft(name, weights, tensors, config, notes, directional)
    add_origin(adapter, weights.parent)
    return adapter
