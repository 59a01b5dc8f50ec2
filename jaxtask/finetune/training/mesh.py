"""Devices as a mesh of three axes, and what lies along which.

"task": tasks, with their adapters and optimisers. "data": the rows of a batch. "model": features
of the frozen base. A dimension that its axis does not divide stays whole on every device.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxtask.errors import TrainingError
from jaxtask.finetune.recipe.settings import MESH_AXES
from jaxtask.finetune.training.lora import task_axis


def make_mesh(task: int = 1, data: int = 1, model: int = 1) -> Mesh:
    """A mesh over the first task · data · model devices."""
    needed, found = task * data * model, jax.devices()
    if min(task, data, model) < 1 or needed > len(found):
        raise TrainingError(
            f"a mesh of task={task}, data={data}, model={model} needs {needed} devices of at least "
            f"one each; there are {len(found)}"
        )
    grid = np.asarray(found[:needed]).reshape(task, data, model)
    return Mesh(grid, MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def weight_spec(shape: tuple[int, ...], split: int | None, mesh: Mesh) -> P:
    """How a parameter of the base is spread: "model" divides the axis `split`, if there is one."""
    names: list[str | None] = [None] * len(shape)
    if split is not None and shape[split] % mesh.shape["model"] == 0:
        names[split] = "model"
    return P(*names)


def spread_tasks(tree: Any, mesh: Mesh) -> Any:
    """The shardings of a tree whose leaves have a task axis (see `task_axis`)."""

    def spec(path: tuple[Any, ...], _: Any) -> NamedSharding:
        return NamedSharding(mesh, P(*[None] * task_axis(path), "task"))

    return jax.tree_util.tree_map_with_path(spec, tree)


def spread_batch(batch: Any, mesh: Mesh) -> Any:
    """The shardings of a batch: tasks along "task", rows along "data".

    Raises:
        TrainingError: An axis does not divide them.

    """
    T, B = batch.tokens.shape[:2]
    for name, found in (("task", T), ("data", B)):
        if found % mesh.shape[name]:
            what = "tasks" if name == "task" else "rows"
            raise TrainingError(
                f"the mesh's '{name}' axis of {mesh.shape[name]} does not divide {found} {what}"
            )
    return jax.tree.map(lambda _: NamedSharding(mesh, P("task", "data")), batch)
