"""All tensors of an adapter's weights: of one file, or of several that an index names."""

from __future__ import annotations

from pathlib import Path

from jaxtask.adapters.tensors.safetensors import read_header
from jaxtask.adapters.tensors.stored import StoredTensor
from jaxtask.adapters.tensors.torch_zip import read_torch_zip
from jaxtask.adapters.weight_files import read_index
from jaxtask.errors import AdapterError


def read_tensors(weights: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """The tensors by name and a safetensors file's metadata. Reads no tensor data.

    Raises:
        AdapterError: For a damaged file, and for shards that are not just what the index says.

    """
    if weights.suffix != ".json":
        if weights.suffix == ".safetensors":
            return read_header(weights)
        return read_torch_zip(weights), {}
    tensors: dict[str, StoredTensor] = {}
    metadata: dict[str, str] = {}
    for file, names in read_index(weights, AdapterError).items():
        if file.suffix not in (".safetensors", ".bin"):
            raise AdapterError(f"{weights}: {file.name!r} is no .safetensors or .bin file")
        here, more = read_tensors(file)
        if wrong := sorted(names.symmetric_difference(here)):
            held = "lacks" if wrong[0] in names else "has"
            raise AdapterError(
                f"{file}: {held} the tensor {wrong[0]!r:.200}, unlike {weights.name} says"
            )
        tensors |= here
        metadata |= more
    return tensors, metadata
