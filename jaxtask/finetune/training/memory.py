"""How many tasks fit on the device at once, by what the compiled step says that it needs."""

from collections.abc import Callable
from typing import Any

import jax

from jaxtask.errors import TrainingError
from jaxtask.machine import available_memory

# Left to what runs beside the step: evaluations, the best adapters so far, gaps between arrays.
_SHARE = 0.9


def free_bytes() -> int:
    """What a step may take of the memory that a device has left.

    A GPU or TPU says how much is its own; on CPU it is the main memory that is available.
    """
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(_SHARE * (stats["bytes_limit"] - stats["bytes_in_use"]))
    return int(_SHARE * available_memory())


def step_bytes(compiled: Any, base: Any) -> int:
    """What a compiled step holds at its largest, on one device, beside the `base` that is there.

    Its other arguments, its results where they are not in the place of arguments, and all between.
    """
    memory = compiled.memory_analysis()
    there = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(base))
    return int(
        memory.argument_size_in_bytes
        - there
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )


def largest_stack(need: Callable[[int], int], tasks: int, free: int, unit: int = 1) -> int:
    """How many of `tasks` tasks train at once, so that the stacks are few, alike, and fit.

    Args:
        need: Bytes of a step of so many tasks; a compilation each, so it is asked rarely.
        tasks: How many there are.
        free: Bytes that a step may take.
        unit: What the number must be a multiple of, where it divides `tasks`.

    Raises:
        TrainingError: Not even the fewest fit.

    """
    unit = unit if tasks % unit == 0 else 1
    units = tasks // unit
    size = units
    while (needed := need(size * unit)) > free:
        if size == 1:
            raise TrainingError(
                f"training {unit} task{'s' * (unit > 1)} at once needs {_gigabytes(needed)} beside "
                f"the base model, and {_gigabytes(free)} are free; a smaller training.batch or "
                "training.max_len, or a larger training.accumulate, needs less (stack=1 tries "
                "anyway)"
            )
        # Some of it does not grow with the tasks, so this is rather too small than too large.
        fitting = max(1, min(size - 1, size * free // needed))
        size = -(-units // -(-units // fitting))
    return size * unit


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
