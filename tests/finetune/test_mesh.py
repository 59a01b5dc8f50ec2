"""Training over a mesh of four devices equals training on one."""

import json

import pytest
from flax import nnx

from finetune.tiny import config, fields_of
from jaxtask.errors import TrainingError
from jaxtask.finetune.models.architectures import ARCHITECTURES
from jaxtask.finetune.models.load import abstract_model
from jaxtask.finetune.training.mesh import make_mesh
from shell import python

FOUR = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_num_cpu_devices", 4)
from jax.sharding import PartitionSpec as P
from finetune.tiny import LLAMA, largest_difference, lora, model, numbers, text_batch
from jaxtask.errors import TrainingError
from jaxtask.finetune.recipe.settings import Lora
from jaxtask.finetune.training.mesh import make_mesh
from jaxtask.finetune.models.load import load_model, save_model
from jaxtask.finetune.training.step import StepOptions, init_state, make_train_step
from engine.test_compilation import compilations
from pathlib import Path

folder = Path(sys.argv[1]) / "model"
save_model(model(LLAMA, vocab_size=64), folder)
specs = [Lora(r=4, targets=["q_proj", "down_proj"]), Lora(r=2, targets=["q_proj"])]
rng = np.random.default_rng(0)
batches = [text_batch(rng, [[12, 5, 9, 7], [3, 12, 4, 8]], 12) for _ in range(2)]

def run(mesh):
    base = load_model(folder, "float32", mesh)
    settings = numbers(specs, base.config, dropout=0.1, seed=[3, 4], peak=1e-3)
    state = init_state(lora(specs, base.config), mesh)
    step = make_train_step(base, StepOptions(dropout=True), mesh)
    with compilations() as counted:
        for batch in batches:
            state, report = step(state, settings, batch, jnp.ones(2, bool))
    assert sum(n for name, n in counted.items() if "step" in name) == 1, counted
    return base, state, report

_, alone, said = run(None)
found = []
for sizes in json.loads(sys.argv[2]):
    mesh = make_mesh(**sizes)
    base, state, report = run(mesh)
    specs_of = lambda x: x.sharding.spec
    model_axis = sizes.get("model", 1)
    assert specs_of(base.layers.q_proj.kernel[...]) == P(None, None, "model")
    assert specs_of(base.layers.o_proj.kernel[...]) == P(None, "model", None)
    assert specs_of(base.embedding[...]) == P("model", None)
    shard = base.layers.q_proj.kernel[...].addressable_shards[0].data.shape
    assert shard[2] == 24 // model_axis, shard
    A = state.parameters["self_attn.q_proj"]["A"]
    assert A.addressable_shards[0].data.shape[1] == 2 // sizes.get("task", 1)
    assert state.adam.mu["self_attn.q_proj"]["B"].sharding.is_equivalent_to(
        state.parameters["self_attn.q_proj"]["B"].sharding, 4
    )
    found.append([
        float(largest_difference(alone.parameters, state.parameters)),
        float(largest_difference(said, report)),
    ])
try:
    make_mesh(task=8)
except TrainingError as error:
    found.append(str(error))
try:
    run(make_mesh(data=3))
except TrainingError as error:
    found.append(str(error))
print(json.dumps(found))
"""


@pytest.mark.process
@pytest.mark.slow
def test_four_devices(tmp_path, within):
    meshes = [{"task": 2, "data": 2}, {"data": 2, "model": 2}]
    *apart, too_many, ragged = json.loads(python(FOUR, tmp_path, json.dumps(meshes)))
    for (parameters, report), mesh in zip(apart, meshes, strict=True):
        within(f"parameters on a mesh of {mesh}", parameters, 1e-5)
        within(f"report on a mesh of {mesh}", report, 1e-5)
    assert "task=8, data=1, model=1 needs 8 devices" in too_many
    assert "'data' axis of 3 does not divide 4 rows" in ragged


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_what_a_mesh_divides(kind):
    """Every linear layer of a layer, so that one sum is enough for each pair; and the words."""
    state = nnx.state(abstract_model(config(fields_of(kind)), "float32"))
    for path, variable in nnx.to_flat_state(state):
        expected = {"embedding": -2, "head": -2, "words": -2}.get(path[0])
        if path[0] == "layers" and path[-1] == "kernel":
            second = path[1] in ("o_proj", "down_proj", "attention_output", "output")
            expected = -2 if second else -1
        assert variable.get_metadata()["split"] == expected, path


def test_a_mesh_of_nothing():
    with pytest.raises(TrainingError, match="data=0, model=1 needs 0 devices"):
        make_mesh(data=0)
