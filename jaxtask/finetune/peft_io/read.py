"""An adapter in PEFT's format as parameters, to train on from there."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxtask.adapters import load_adapters
from jaxtask.adapters.adapter import Adapter
from jaxtask.adapters.formats.peft_config import AdapterConfig, read_config
from jaxtask.adapters.keys import strip_wrappers
from jaxtask.adapters.write import CONFIG, PREFIX, WEIGHTS
from jaxtask.errors import AdapterError, RecipeError
from jaxtask.finetune.recipe.settings import Lora

_NARROWING = ("layers_to_transform", "layers_pattern", "exclude_modules")


@dataclass(frozen=True, eq=False)
class StoredAdapter:
    """What a folder holds, in the form of training.

    Attributes:
        base: The base model's name, if the file has one.
        ranks: Module → its rank in each layer [L]; 0 where there is no LoRA.
        parameters: Parameters of one task, see `training.parameters`; without a head if the file
            has none.

    """

    base: str | None
    lora: Lora
    ranks: dict[str, np.ndarray]
    parameters: dict[str, dict[str, np.ndarray]]


def read_adapter(
    folder: str | os.PathLike[str],
    linears: Mapping[str, tuple[int, int]],
    layers: int,
    head: Mapping[str, tuple[int, int]] | None = None,
    without_head: bool = False,
) -> StoredAdapter:
    """Read an adapter to train it further.

    Args:
        folder: Written by PEFT or by `write_adapter`.
        linears: The model's modules, by their path within a layer: (in, out).
        layers: How many layers the model has.
        head: The layers of a classifier's head: (in, out).
        without_head: Whether to leave the head out that the file may have.

    Raises:
        AdapterError: It is no plain LoRA adapter, does not fit the model, or holds something that
            would be lost.

    """
    folder = Path(folder)
    found = load_adapters({folder.name: folder}).adapters
    if len(found) != 1:
        raise AdapterError(f"{folder}: holds {len(found)} adapters, expected one to train further")
    (adapter,) = found
    approximate, excluded = (adapter.provenance[key] for key in ("approximate", "excluded"))
    head = head or {}
    wanted = {f"{PREFIX}{name}.{end}" for name in head for end in ("weight", "bias")}
    lost = [name for name in excluded if name not in wanted and name != "modules_to_save"]
    if lost or approximate:
        why = approximate or f"'{lost[0]}' would be lost: {excluded[lost[0]]}"
        raise AdapterError(f"{folder}: cannot be trained further: {why}")
    config = read_config(folder / CONFIG)
    for name in ("alora_invocation_tokens", "init_r"):
        if name in config.fields:
            raise AdapterError(f"{folder}: cannot be trained further: {name} is set, unlike LoRA's")
    ranks, parameters = _factors(folder, adapter, linears, layers, config)
    if head and not without_head and any(name in excluded for name in wanted):
        parameters |= _head(folder, head)
    try:
        lora = _lora(config, adapter)
    except RecipeError as error:
        raise AdapterError(f"{folder / CONFIG}: cannot be trained further: {error}") from error
    return StoredAdapter(adapter.base_model, lora, ranks, parameters)


def _lora(config: AdapterConfig, adapter: Adapter) -> Lora:
    """The settings in the config, with full names where PEFT's targets were narrowed down."""
    targets = config.target_modules
    if any(name in config.fields for name in _NARROWING):
        targets = tuple(strip_wrappers(adapter.path(key)) for key in adapter.modules)
    return Lora(
        r=config.r,
        alpha=config.alpha,
        rslora=config.rslora,
        dropout=config.fields.get("lora_dropout", 0.0),
        targets=targets,
        rank_pattern={name: int(rank) for name, rank in config.rank_pattern.items()},
        alpha_pattern=config.alpha_pattern,
        # How A was initialised is not in the file, and no longer matters.
        shared_init=False,
    )


def _factors(
    folder: Path,
    adapter: Adapter,
    linears: Mapping[str, tuple[int, int]],
    layers: int,
    config: AdapterConfig,
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
    """Ranks, and A and B of all layers with zeros up to the largest rank."""
    ranks: dict[str, np.ndarray] = {}
    for key, shape in adapter.modules.items():
        path = adapter.path(key)
        if config.rank_of(strip_wrappers(path)) != shape.rank:
            raise AdapterError(
                f"{folder}: '{path}' has rank {shape.rank}, but {CONFIG} says "
                f"{config.rank_of(strip_wrappers(path))}"
            )
        if key.module not in linears or not 0 <= key.layer < layers:
            raise AdapterError(
                f"{folder}: adapts '{path}', which the base model has not: it has {layers} layers "
                f"with {', '.join(linears)}"
            )
        d_in, d_out = linears[key.module]
        if (shape.d_in, shape.d_out) != (d_in, d_out):
            raise AdapterError(
                f"{folder}: '{path}' maps {shape.d_in} to {shape.d_out} features, expected "
                f"{d_in} to {d_out} as in the base model"
            )
        ranks.setdefault(key.module, np.zeros(layers, np.int64))[key.layer] = shape.rank
    largest = max(int(row.max()) for row in ranks.values())
    parameters: dict[str, dict[str, np.ndarray]] = {}
    for module in ranks:
        d_in, d_out = linears[module]
        A = np.zeros((layers, d_in, largest), np.float32)
        B = np.zeros((layers, largest, d_out), np.float32)
        parameters[module] = {"A": A, "B": B}
    for key, shape in adapter.modules.items():
        update = adapter.load(key)
        if update.A.dtype != np.float32:
            raise AdapterError(
                f"{folder}: '{adapter.path(key)}' is stored as float64, expected float32 or less: "
                "its values would be rounded"
            )
        parameters[key.module]["A"][key.layer, :, : shape.rank] = update.A.T
        parameters[key.module]["B"][key.layer, : shape.rank] = update.B.T
    return ranks, parameters


def _head(folder: Path, head: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, np.ndarray]]:
    """The head's layers, from the same file."""
    if not head:
        return {}
    from safetensors import SafetensorError, safe_open

    file = folder / WEIGHTS
    if not file.exists():
        raise AdapterError(f"{file}: is missing, but the head is read from there only")
    found: dict[str, dict[str, np.ndarray]] = {}
    try:
        opened = safe_open(file, framework="numpy")
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{file}: is truncated or no safetensors file: {error}") from error
    with opened as tensors:
        for name, (d_in, d_out) in head.items():
            shapes = {"weight": (d_out, d_in), "bias": (d_out,)}
            layer = {}
            for end, shape in shapes.items():
                key = f"{PREFIX}{name}.{end}"
                if key not in tensors.keys():  # noqa: SIM118  (the handle is no dictionary)
                    raise AdapterError(f"{file}: holds no '{key}', expected the head's {shape}")
                layer[end] = tensors.get_tensor(key)
                if layer[end].shape != shape:
                    raise AdapterError(
                        f"{file}: '{key}' has shape {layer[end].shape}, expected {shape}"
                    )
                if not np.isfinite(layer[end].astype(np.float32)).all():
                    raise AdapterError(
                        f"{file}: '{key}' holds NaN or infinity, expected finite numbers"
                    )
            kernel = np.ascontiguousarray(layer["weight"].T, np.float32)
            found[name] = {"kernel": kernel, "bias": layer["bias"].astype(np.float32)}
    return found
