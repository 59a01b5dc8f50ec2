"""From files to models and back, one tensor at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxtask.adapters.weight_files import SINGLE
from jaxtask.errors import ModelError
from jaxtask.finetune.models.config import (
    DecoderConfig,
    EncoderConfig,
    ModelConfig,
    config_fields,
    read_config,
    read_fields,
)
from jaxtask.finetune.models.decoder import Decoder
from jaxtask.finetune.models.encoder import Encoder, Head, head_shapes
from jaxtask.finetune.models.files import FolderWeights, Weights
from jaxtask.finetune.models.gguf import GgufWeights
from jaxtask.finetune.models.names import Place, match_names, places
from jaxtask.finetune.training.mesh import weight_spec
from jaxtask.folders import new_folder

Model = Decoder | Encoder
Dtype = Literal["float32", "bfloat16"]


def load_model(path: str | Path, dtype: Dtype = "bfloat16", mesh: Mesh | None = None) -> Model:
    """The model in a Hugging Face folder or a GGUF file, its weights on the device in `dtype`.

    With a `mesh`, weights are spread over its "model" axis. Host memory holds one tensor at a time
    (and a copy while it is laid out).

    Raises:
        ModelError: For an architecture that is not supported and for tensors that are missing,
            unknown or of another shape than the config says.

    """
    path = Path(path)
    if path.suffix == ".gguf":
        gguf = GgufWeights(path)
        return fill(abstract_model(gguf.config, dtype), gguf, mesh)
    if not path.is_dir():
        raise ModelError(f"{path}: is neither a folder with a model nor a .gguf file")
    config, weights = read_config(path), FolderWeights(path)
    if isinstance(config, DecoderConfig) and config.tied and _has_other_head(config, weights):
        config = replace(config, tied=False)
    return fill(abstract_model(config, dtype), weights, mesh)


def _has_other_head(config: DecoderConfig, weights: Weights) -> bool:
    """Whether the file has an output layer that is not its embedding, whatever its config says.

    The two are then not tied, as in transformers.
    """
    head, embedding = (f"{config.row.names[name]}.weight" for name in ("head", "embedding"))
    if head not in weights.shapes or embedding not in weights.shapes:
        return False
    return weights.shapes[head] != weights.shapes[embedding] or not np.array_equal(
        weights.read(head), weights.read(embedding)
    )


def abstract_model(config: ModelConfig, dtype: Dtype) -> Model:
    """A model whose parameters have shapes and types but no values."""
    if isinstance(config, DecoderConfig):
        return Decoder(config, jnp.dtype(dtype))
    return Encoder(config, jnp.dtype(dtype))


def random_model(
    config: ModelConfig,
    seed: int,
    dtype: Dtype = "float32",
    mesh: Mesh | None = None,
    spread: float = 0.02,
) -> Model:
    """A model to be pre-trained: weights from N(0, spread²), norms 1, biases 0."""
    definition, state = nnx.split(abstract_model(config, dtype))
    flat = nnx.to_flat_state(state)
    keys = jax.random.split(jax.random.key(seed), len(flat))
    filled = []
    for key, (path, variable) in zip(keys, flat, strict=True):
        shape = variable.get_value()
        draw = _draw(path[-1], shape.shape, shape.dtype, _sharding(variable, mesh), spread)
        filled.append((path, variable.replace(draw(key))))
    return nnx.merge(definition, nnx.from_flat_state(filled))


def fill(model: Model, weights: Weights, mesh: Mesh | None) -> Model:
    """`model`, made abstract, with its values from `weights`."""
    matched = match_names(weights.shapes, model, weights.source)
    definition, state = nnx.split(model)
    variables = dict(nnx.to_flat_state(state))
    arrays: dict[tuple[Any, ...], Array] = {}
    for name, place in matched.items():
        shape = variables[place.path].get_value()
        expected = shape.shape if place.layer is None else shape.shape[1:]
        expected = expected[::-1] if place.transposed else expected
        if weights.shapes[name] != expected:
            raise ModelError(
                f"{weights.source}: tensor '{name}' has shape {weights.shapes[name]}, expected "
                f"{expected} by the config"
            )
    for name, place in matched.items():
        path, variable = place.path, variables[place.path]
        shape, sharding = variable.get_value(), _sharding(variable, mesh)
        arrays[path] = _placed(weights.read(name), place, arrays.get(path), shape, sharding)
        # The next tensor is read only when this one's copies are free.
        jax.block_until_ready(arrays[path])
    filled = [(path, variables[path].replace(array)) for path, array in arrays.items()]
    return nnx.merge(definition, nnx.from_flat_state(filled))


def save_model(model: Model, folder: Path) -> None:
    """Writes `model` as a Hugging Face folder: `config.json` and `model.safetensors`.

    The folder appears when it is complete.

    Raises:
        ModelError: It is there already.

    """
    from safetensors.numpy import save_file

    if folder.exists():
        raise ModelError(f"{folder}: is there already")
    variables = dict(nnx.to_flat_state(nnx.split(model)[1]))
    tensors = {}
    for name, place in places(model).items():
        array = variables[place.path].get_value()
        array = np.asarray(array if place.layer is None else array[place.layer])
        tensors[name] = np.ascontiguousarray(array.T if place.transposed else array)
    dtype = next(iter(tensors.values())).dtype.name
    fields = config_fields(model.config) | {"torch_dtype": dtype}
    with new_folder(folder) as draft:
        (draft / "config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        save_file(tensors, draft / SINGLE, metadata={"format": "pt"})


def load_head(folder: str | Path, config: EncoderConfig) -> Head | None:
    """The sequence classifier in a Hugging Face folder, without task axis; None if it has none.

    Raises:
        ModelError: For a classifier of which a part is missing.

    """
    # Classifiers of single tokens, or of choices, have tensors of the same names.
    kinds = read_fields(Path(folder)).get("architectures") or [""]
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise ModelError(f"{folder}/config.json: architectures is no list of names")
    if not any(kind.endswith("ForSequenceClassification") or not kind for kind in kinds):
        return None
    weights = FolderWeights(Path(folder))
    layers = list(head_shapes(config, 1))
    needed = {f"{name}.{end}" for name in layers for end in ("weight", "bias")}
    missing = needed - weights.shapes.keys()
    if missing == needed:
        return None
    if missing:
        raise ModelError(f"{weights.source}: has a classifier that lacks '{min(missing)}'")
    head: Head = {}
    shape = weights.shapes[f"{layers[-1]}.weight"]
    for name, (d_in, d_out) in head_shapes(config, shape[0] if shape else 0).items():
        for end, expected in (("weight", (d_out, d_in)), ("bias", (d_out,))):
            if weights.shapes[f"{name}.{end}"] != expected or not d_out:
                raise ModelError(
                    f"{weights.source}: the classifier's '{name}.{end}' has shape "
                    f"{weights.shapes[f'{name}.{end}']}, expected {expected} by the config"
                )
    for name in layers:
        head[name] = {
            "kernel": jnp.asarray(weights.read(f"{name}.weight").T, jnp.float32),
            "bias": jnp.asarray(weights.read(f"{name}.bias"), jnp.float32),
        }
    return head


def _placed(
    tensor: np.ndarray,
    place: Place,
    stack: Array | None,
    shape: jax.ShapeDtypeStruct,
    sharding: NamedSharding | None,
) -> Array:
    """The parameter of `shape` that `tensor` is, or the `stack` of layers with it at its place."""
    tensor = tensor.T if place.transposed else tensor
    if place.layer is None:
        whole = jax.device_put(tensor, sharding)
        # Without a difference in type a cast would be one more copy.
        return whole if whole.dtype == shape.dtype else _cast(sharding, shape.dtype)(whole)
    if stack is None:
        stack = jnp.zeros(shape.shape, shape.dtype, device=sharding)
    return _put(sharding)(stack, jax.device_put(tensor, _of_one_layer(sharding)), place.layer)


def _sharding(variable: nnx.Variable, mesh: Mesh | None) -> NamedSharding | None:
    """Where a parameter goes: the default device, uncommitted, without a mesh."""
    if mesh is None:
        return None
    shape, split = variable.get_value().shape, variable.get_metadata().get("split")
    return NamedSharding(mesh, weight_spec(shape, split, mesh))


def _of_one_layer(sharding: NamedSharding | None) -> NamedSharding | None:
    return sharding and NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[1:]))


@cache
def _draw(
    kind: str,
    shape: tuple[int, ...],
    dtype: Any,
    sharding: NamedSharding | None,
    spread: float,
) -> Callable[[Array], Array]:
    """A compiled draw of one parameter's initial values from a key, shared by those like it."""

    def draw(key: Array) -> Array:
        if kind in ("bias", "scale"):
            return jnp.full(shape, float(kind == "scale"), dtype)
        return (spread * jax.random.normal(key, shape)).astype(dtype)

    return jax.jit(draw, out_shardings=sharding)


@cache
def _put(sharding: NamedSharding | None) -> Any:
    def put(stack: Array, row: Array, layer: Array) -> Array:
        return jax.lax.dynamic_update_index_in_dim(stack, row.astype(stack.dtype), layer, 0)

    return jax.jit(put, donate_argnums=0, out_shardings=sharding)


@cache
def _cast(sharding: NamedSharding | None, dtype: Any) -> Any:
    return jax.jit(lambda x: x.astype(dtype), out_shardings=sharding)
