"""The pair stage on several devices: a tile on each, at once, and nothing goes between them."""

import sys
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxtask.engine.program import Program
from jaxtask.engine.tile import measure_tile

_AXIS = PartitionSpec("tile")


@cache
def _mesh() -> Mesh:
    return Mesh(np.array(jax.local_devices()), ("tile",))


def memory_of_a_device() -> int:
    """Bytes that this process may use of one of its devices, without bound where none is said."""
    said = jax.local_devices()[0].memory_stats() or {}
    return int(said.get("bytes_limit", sys.maxsize))


def measure_side_by_side(
    arguments: Sequence[tuple[Any, ...]], program: Program
) -> dict[str, Array]:
    """`measure_tile` of each of the arguments, one on each of this process's devices.

    Args:
        arguments: Those of `measure_tile`, for at most as many tiles as there are devices, of
            equal shapes.
        program: What to compute.

    Returns:
        What `measure_tile` returns, with a leading axis of the devices.

    """
    # What is left over does the first tile's work again, without looking at any of its pairs.
    idle = (*arguments[0][:4], np.int32(0), arguments[0][5])
    every = [*arguments, *[idle] * (_mesh().size - len(arguments))]
    spread = jax.tree.map(lambda *shards: _spread(shards), *every)
    return measure_tiles(spread, program=program, mesh=_mesh())


@partial(jax.jit, static_argnames=("program", "mesh"))
def measure_tiles(arguments: tuple[Any, ...], *, program: Program, mesh: Mesh) -> dict[str, Array]:
    """`measure_tile` for arguments with a leading axis that is spread over the mesh."""

    def one(arguments: tuple[Any, ...]) -> dict[str, Array]:
        own = jax.tree.map(lambda x: x.reshape(x.shape[1:]), arguments)
        return {name: x[None] for name, x in measure_tile(*own, program=program).items()}

    return jax.shard_map(one, mesh=mesh, in_specs=_AXIS, out_specs=_AXIS, check_vma=False)(
        arguments
    )


def _spread(shards: Sequence[Any]) -> Array:
    """One array of the shards, each where it belongs."""
    devices = _mesh().devices.flat
    there = [jax.device_put(x[None], d) for x, d in zip(shards, devices, strict=True)]
    shape = (len(there), *there[0].shape[1:])
    return jax.make_array_from_single_device_arrays(shape, NamedSharding(_mesh(), _AXIS), there)
