"""Trees of parameters: T tasks together, and one task alone.

Together, A is [L, T, in, r] and B is [L, T, r, out] of every module, with r the largest rank of any
task, and heads have T in front. Alone, the task's axis is gone and everything is NumPy's. What lies
beyond a task's own rank is 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Tree = Mapping[str, Mapping[str, Any]]
"""Module or head → "A" and "B", or "kernel" and "bias"."""

_FACTORS = ("A", "B")


def take_task(parameters: Tree, task: int) -> dict[str, dict[str, np.ndarray]]:
    """One task's parameters, copied out of T tasks' ones."""
    return {
        module: {
            # A copy: on CPU, JAX hands out its own memory, which the next step may write over.
            name: np.array(leaf[:, task] if name in _FACTORS else leaf[task])
            for name, leaf in leaves.items()
        }
        for module, leaves in parameters.items()
    }


def stack_tasks(tasks: Sequence[Tree]) -> dict[str, dict[str, np.ndarray]]:
    """T tasks' parameters from those of each. Smaller arrays are filled up with zeros.

    A module that only some tasks have is zero in the others, where it stays zero in training: the
    gradient of A is a multiple of B, and that of B of A.
    """
    modules = list(dict.fromkeys(module for task in tasks for module in task))
    stacked: dict[str, dict[str, np.ndarray]] = {}
    for module in modules:
        having = [task[module] for task in tasks if module in task]
        stacked[module] = {}
        for name in having[0]:
            leaves = [np.asarray(task[module][name]) if module in task else None for task in tasks]
            shape = np.max([leaf.shape for leaf in leaves if leaf is not None], axis=0)
            whole = np.zeros((len(tasks), *shape), np.float32)
            for t, leaf in enumerate(leaves):
                if leaf is not None:
                    place: Any = (t, *map(slice, leaf.shape))
                    whole[place] = leaf
            stacked[module][name] = np.moveaxis(whole, 0, 1) if name in _FACTORS else whole
    return stacked
