"""Reading and writing models: names, shapes, shards, types, memory, and wrong files."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from finetune.tiny import BERT, LLAMA, ROBERTA, config, fields_of, largest_difference, model
from jaxtask.errors import ModelError
from jaxtask.finetune.models.architectures import ARCHITECTURES
from jaxtask.finetune.models.config import config_fields, parse_config
from jaxtask.finetune.models.load import (
    abstract_model,
    load_head,
    load_model,
    random_model,
    save_model,
)
from jaxtask.finetune.models.names import match_names, places

KINDS = {
    **{kind: fields_of(kind) for kind in ARCHITECTURES},
    "tied": {**LLAMA, "tie_word_embeddings": True},
    "biases": {**LLAMA, "attention_bias": True, "mlp_bias": True},
}


def values(model):
    return nnx.split(model)[1]


@pytest.fixture
def saved(tmp_path):
    """A folder with a model of LLAMA's shape."""
    save_model(model(LLAMA), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(tmp_path, kind):
    made = model(KINDS[kind])
    save_model(made, tmp_path / "model")
    again = load_model(tmp_path / "model", "float32")
    assert again.config == made.config
    assert largest_difference(values(made), values(again)) == 0
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_layout_of_the_file(saved):
    """Linear layers are stored (out, in), one tensor a layer."""
    tensors = load_file(saved / "model.safetensors")
    made = model(LLAMA)
    for n in range(3):
        stored = tensors[f"model.layers.{n}.mlp.up_proj.weight"]
        assert stored.shape == (40, 24)
        np.testing.assert_array_equal(stored.T, made.layers.up_proj.kernel[...][n])


@pytest.mark.parametrize("kind", KINDS)
def test_table_is_invertible(kind):
    made = model(KINDS[kind])
    table = places(made)
    named = {place.path[place.layer is not None] for place in table.values()}
    assert named == set(made.config.row.names) - ({"head"} if kind == "tied" else set())
    assert len(set(table.values())) == len(table)
    state = dict(nnx.to_flat_state(values(made)))
    assert {place.path for place in table.values()} == set(state)
    for path, variable in state.items():
        layers = {place.layer for place in table.values() if place.path == path}
        stacked = path[0] == "layers"
        assert layers == (set(range(variable.get_value().shape[0])) if stacked else {None})


def test_shards(saved):
    tensors = load_file(saved / "model.safetensors")
    names = sorted(tensors)
    files = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, own in files.items():
        save_file({name: tensors[name] for name in own}, saved / file)
    (saved / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, own in files.items() for name in own}}
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    assert largest_difference(values(model(LLAMA)), values(load_model(saved, "float32"))) == 0
    index["weight_map"][names[0]] = "b.safetensors"
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=f"b.safetensors: lacks tensor '{names[0]}'"):
        load_model(saved)
    (saved / "b.safetensors").unlink()
    with pytest.raises(ModelError, match=r"b.safetensors: is missing, truncated"):
        load_model(saved)


def test_a_tied_model_with_an_output_layer_of_its_own(saved):
    """Files whose config says tied, though they hold another output layer, are not tied."""
    config_file = saved / "config.json"
    fields = {**json.loads(config_file.read_text()), "tie_word_embeddings": True}
    config_file.write_text(json.dumps(fields))
    found = load_model(saved, "float32")
    assert not found.config.tied
    assert largest_difference(values(model(LLAMA)), values(found)) == 0
    changed(saved, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"]}))
    assert load_model(saved, "float32").config.tied
    changed(saved, lambda t: t.update({"lm_head.weight": np.ones((60, 24), "f")}))
    with pytest.raises(ModelError, match=r"'lm_head.weight' has shape \(60, 24\), expected \(61, "):
        load_model(saved)


def test_types(saved):
    half = load_model(saved, "bfloat16")
    for ours, exact in zip(
        jax.tree.leaves(values(half)), jax.tree.leaves(values(model(LLAMA))), strict=True
    ):
        assert ours.dtype == jnp.bfloat16
        np.testing.assert_array_equal(ours, exact.astype(jnp.bfloat16))
    tensors = load_file(saved / "model.safetensors")
    tensors = {n: np.asarray(t, jnp.bfloat16) for n, t in tensors.items()}
    save_file(tensors, saved / "model.safetensors")
    wide = load_model(saved, "float32")
    assert largest_difference(values(wide), jax.tree.map(jnp.float32, values(half))) == 0
    tensors["model.norm.weight"] = np.ones(24, np.int8)
    save_file(tensors, saved / "model.safetensors")
    with pytest.raises(ModelError, match=r"'model.norm.weight' is stored as I8"):
        load_model(saved)


def changed(folder, change):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def test_names_that_do_not_match(saved):
    changed(saved, lambda t: t.update({"model.layers.0.extra.weight": np.ones(3, "f")}))
    with pytest.raises(ModelError, match=r"no place in a llama model: 'model.layers.0.extra"):
        load_model(saved)
    changed(saved, lambda t: [t.pop("model.layers.0.extra.weight"), t.pop("lm_head.weight")])
    with pytest.raises(ModelError, match=r"the file lacks: 'lm_head.weight'"):
        load_model(saved)
    changed(saved, lambda t: t.update({"norm.weight": t["model.norm.weight"]}))
    with pytest.raises(ModelError, match=r"one and the same: 'model.norm.weight', 'norm.weight'"):
        load_model(saved)


def test_shape_that_does_not_match(saved):
    changed(saved, lambda t: t.update({"lm_head.weight": np.ones((61, 23), "f")}))
    with pytest.raises(
        ModelError, match=r"'lm_head.weight' has shape \(61, 23\), expected \(61, 24"
    ):
        load_model(saved)


def test_names_of_older_and_headless_files():
    wanted = places(model(BERT))
    old = {
        n.removeprefix("bert.").replace("LayerNorm.weight", "LayerNorm.gamma"): place
        for n, place in wanted.items()
    }
    extra = ["embeddings.position_ids", "cls.predictions.bias", "classifier.weight"]
    assert match_names([*old, *extra], model(BERT), "test") == old
    tied = model(LLAMA, tie_word_embeddings=True)
    extra = ["lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"]
    assert match_names([*places(tied), *extra], tied, "test") == places(tied)


def test_folders_that_are_none(tmp_path):
    with pytest.raises(ModelError, match=r"neither a folder with a model nor a .gguf file"):
        load_model(tmp_path / "absent")
    with pytest.raises(ModelError, match=r"config.json: no such file"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config.json: is not valid JSON"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    with pytest.raises(ModelError, match=r"holds neither model.safetensors nor"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match=r"model.safetensors: is missing, truncated"):
        load_model(tmp_path)


def test_a_folder_is_not_overwritten(saved):
    with pytest.raises(ModelError, match="is there already"):
        save_model(model(LLAMA), saved)


def test_head(tmp_path):
    made = model(ROBERTA)
    save_model(made, tmp_path / "model")
    assert load_head(tmp_path / "model", made.config) is None
    rng = np.random.default_rng(0)
    head = {
        "classifier.dense.weight": rng.standard_normal((24, 24), "f"),
        "classifier.dense.bias": rng.standard_normal(24, "f"),
        "classifier.out_proj.weight": rng.standard_normal((3, 24), "f"),
        "classifier.out_proj.bias": rng.standard_normal(3, "f"),
    }
    changed(tmp_path / "model", lambda t: t.update(head))
    assert largest_difference(values(load_model(tmp_path / "model", "float32")), values(made)) == 0
    found = load_head(tmp_path / "model", made.config)
    np.testing.assert_array_equal(
        found["classifier.out_proj"]["kernel"], head["classifier.out_proj.weight"].T
    )
    np.testing.assert_array_equal(found["classifier.dense"]["bias"], head["classifier.dense.bias"])
    for name, shape in (
        ("dense.weight", (24, 3)),
        ("out_proj.bias", (4,)),
        ("out_proj.weight", ()),
    ):
        wrong = {**head, f"classifier.{name}": np.zeros(shape, "f")}
        changed(tmp_path / "model", lambda t, wrong=wrong: t.update(wrong))
        with pytest.raises(ModelError, match=r"the classifier's '.*' has shape .*, expected \("):
            load_head(tmp_path / "model", made.config)
    fields = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**fields, "architectures": [7]}))
    with pytest.raises(ModelError, match=r"config.json: architectures is no list of names"):
        load_head(tmp_path / "model", made.config)
    (tmp_path / "model" / "config.json").write_text(json.dumps(fields))
    changed(tmp_path / "model", lambda t: t.pop("classifier.dense.bias"))
    with pytest.raises(ModelError, match=r"classifier that lacks 'classifier.dense.bias'"):
        load_head(tmp_path / "model", made.config)


def test_random_model():
    made, again, other = (random_model(config(LLAMA), seed) for seed in (0, 0, 1))
    assert largest_difference(values(made), values(again)) == 0
    assert largest_difference(values(made), values(other)) > 0
    kernel = np.asarray(made.layers.up_proj.kernel[...])
    assert abs(kernel.std() - 0.02) < 0.002
    assert (np.asarray(made.layers.mlp_norm.scale[...]) == 1).all()
    assert len(np.unique(kernel)) > 0.9 * kernel.size  # layers differ


@pytest.mark.parametrize("kind", KINDS)
def test_config_round_trip(kind):
    made = config(KINDS[kind])
    assert parse_config(config_fields(made), "test") == made


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"model_type": "gpt2"},
            f"model_type is 'gpt2', expected .*architectures: {', '.join(ARCHITECTURES)}$",
        ),
        ({"rms_norm_eps": None}, "rms_norm_eps is None, expected a number"),
        ({"vocab_size": "many"}, "vocab_size is 'many', expected a whole number"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', expected 'silu'"),
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3, expected a divisor"),
        ({"head_dim": 5}, "head_dim is 5, expected an even number"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "rope_type is 'yarn', expected 'default' or"),
        ({"rope_scaling": {"type": "llama3"}}, "llama3 scaling's factor is None"),
        ({"quantization_config": {}}, "quantization_config is {}, which is not supported"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes', expected true or false"),
        ({"eos_token_id": "</s>"}, "eos_token_id is '</s>', expected a token id"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_configs_that_are_not_supported(fields, message):
    with pytest.raises(ModelError, match=f"^somewhere: .*{message}"):
        parse_config({**LLAMA, **fields}, "somewhere")


def test_field_that_is_missing():
    without = {k: v for k, v in BERT.items() if k != "layer_norm_eps"}
    assert parse_config(without, "somewhere").norm_eps == 1e-12


MEMORY = """
import sys
from pathlib import Path

def status(field):
    line = Path("/proc/self/status").read_text().split(field + ":")[1]
    return int(line.split()[0]) * 1024

import jax
from flax import nnx
from jaxtask.finetune.models.load import load_model
load_model(sys.argv[1], sys.argv[3])  # what is loaded and compiled once
before = status("VmRSS")
model = load_model(sys.argv[2], sys.argv[3])
held = sum(x.nbytes for x in jax.tree.leaves(nnx.split(model)[1]))
print(held, status("VmHWM") - before)
"""


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """A folder in several shards, larger than what a process needs anyway, and its tensors' sizes.

    The largest tensor is a tenth of the whole.
    """
    folder = tmp_path_factory.mktemp("sharded")
    big = {**LLAMA, "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 24}
    big |= {"vocab_size": 16384, "tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(big))
    abstract = abstract_model(config(big), "float32")
    state = dict(nnx.to_flat_state(values(abstract)))
    shards, sizes, weight_map = [{} for _ in range(4)], [], {}
    for n, (name, place) in enumerate(places(abstract).items()):
        shape = state[place.path].get_value().shape[0 if place.layer is None else 1 :]
        tensor = np.ones(shape[::-1] if place.transposed else shape, np.float32)
        shards[n % 4][name] = tensor
        weight_map[name] = f"model-{n % 4}.safetensors"
        sizes.append(tensor.nbytes)
    for n, tensors in enumerate(shards):
        save_file(tensors, folder / f"model-{n}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert sum(sizes) > 10 * max(sizes) > 3e8
    return folder, sizes


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_memory_while_loading(tmp_path, sharded, dtype, within):
    """At its highest, the model and twice its largest tensor, pages of mapped files included."""
    folder, sizes = sharded
    save_model(model(LLAMA), tmp_path / "small")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path / "small", folder, dtype],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={"PYTHONPATH": f"{root}:{root / 'kernels'}", "PATH": ""},
    )
    held, rise = map(int, done.stdout.split())
    assert held == sum(sizes) * np.dtype(jnp.dtype(dtype)).itemsize / 4
    # The highest so far may have been before: then this is more than the rise.
    within(f"memory while loading, {dtype}", rise - held, 2 * max(sizes))
