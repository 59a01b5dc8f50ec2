"""The adapters of all seeds beside each other: whether a task is more like itself than others."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

VARIABLES = ("grassmann_out", "grassmann_in", "cosine")
METRICS = ("grassmann", "cosine")


def compare_seeds(
    adapters: dict[int, Path], names: Sequence[str], out: Path, command: str = ""
) -> dict[str, Any] | None:
    """Means over pairs of adapters by whether task and seed are the same; None for one seed.

    Args:
        adapters: Seed → the folder of its adapters.
        names: Names of the adapters.
        out: Where the comparison of all of them is written, or is already.
        command: Recorded with it.

    Returns:
        Variable → the three means, and of all tasks the share whose nearest one in the other seed
        is the same task.

    """
    from jaxtask.adapters import load_adapters
    from jaxtask.analysis import pool
    from jaxtask.engine import compare, open_result

    if len(adapters) < 2:
        return None
    paths = {f"{name} (seed {s})": str(a / name) for s, a in adapters.items() for name in names}
    if not out.exists():
        compare(load_adapters(paths), metrics=METRICS, out=out, command=command)
    ds = open_result(out).sel(source=list(paths), target=list(paths))
    seeds, tasks = len(adapters), len(names)
    return {
        name: kinds(pool(ds, name).values.reshape(seeds, tasks, seeds, tasks), name == "cosine")
        for name in VARIABLES
    }


def kinds(values: np.ndarray, larger_is_nearer: bool) -> dict[str, float]:
    """Means over kinds of pairs; `values` [S, T, S, T] of S seeds and T tasks."""
    S, T = values.shape[:2]
    same_task = np.eye(T, dtype=bool)
    between = [values[a, :, b, :] for a, b in combinations(range(S), 2)]
    within = [values[a, :, a, :] for a in range(S)]
    found, looked = 0, 0
    for block in (*between, *(block.T for block in between)):
        nearest = np.argmax(block, axis=1) if larger_is_nearer else np.argmin(block, axis=1)
        found += int(np.sum(nearest == np.arange(T)))
        looked += T
    return {
        "same task, other seed": float(np.mean([block[same_task] for block in between])),
        "other task, other seed": float(np.mean([block[~same_task] for block in between])),
        "other task, same seed": float(np.mean([block[~same_task] for block in within])),
        "nearest is the same task": found / looked,
    }
