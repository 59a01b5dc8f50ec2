"""Checkpoints that cannot be used: one clear error each, and nothing left behind."""

import json
import os

import ml_dtypes
import numpy as np
import pytest
from safetensors import SafetensorError

import jaxtask as jt
from extract.checkpoints import changed, path, save, weights
from jaxtask.errors import AdapterError, ModelError
from jaxtask.extract.write import write_difference

Q = f"{path(0, 'self_attn.q_proj')}.weight"


@pytest.fixture
def base(tmp_path):
    return save(tmp_path / "base", weights())


def tuned_with(tmp_path, **tensors):
    """A changed checkpoint in which some tensors are others; None takes one away."""
    after, _ = changed(weights(), 2)
    for name, tensor in tensors.items():
        after[name] = tensor
    return save(tmp_path / "tuned", {n: t for n, t in after.items() if t is not None})


def refused(base, tuned, error, *parts, **options):
    with pytest.raises(error) as caught:
        jt.from_checkpoints(base, tuned, rank=2, **options)
    for part in parts:
        assert part in str(caught.value)


def test_no_checkpoint(base, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(base, tmp_path / "empty", ModelError, "empty", "holds neither model.safetensors nor")
    refused(tmp_path / "no/such/path", base, ModelError, "no/such/path", "neither a path nor")
    refused("no-such/model", base, ModelError, "no-such/model", "local Hugging Face cache")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    refused(base, tmp_path / "model.gguf", ModelError, "model.gguf", "expected a folder")


def test_damaged_files(base, tmp_path):
    tuned = tuned_with(tmp_path)
    file = tuned / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    refused(base, tuned, AdapterError, str(file), "truncated or damaged")
    (tuned / "config.json").write_text("[")
    file.write_bytes((base / "model.safetensors").read_bytes())
    refused(base, tuned, ModelError, "config.json", "is not valid JSON")


def test_an_index_that_is_wrong(base, tmp_path):
    folder = save(tmp_path / "shards", weights(), shards=2)
    index = folder / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": {**places, "more.weight": places[Q]}}))
    refused(base, folder, ModelError, "lacks tensor 'more.weight'")
    index.write_text(json.dumps({"weight_map": {**places, Q: "gone.safetensors"}}))
    refused(base, folder, AdapterError, "gone.safetensors", "cannot be read")
    index.write_text("{}")
    refused(base, folder, ModelError, "weight_map")


def test_tensors_that_one_side_lacks(base, tmp_path):
    fused = "model.layers.0.self_attn.qkv_proj.weight"
    tuned = tuned_with(tmp_path, **{Q: None, fused: np.ones((96, 40), np.float32)})
    told = ("1 that only", "self_attn.q_proj.weight", "qkv_proj.weight", "Fused or renamed")
    refused(base, tuned, AdapterError, *told)
    adapter = jt.from_checkpoints(base, tuned, rank=2, targets=["v_proj"])
    assert fused in adapter.provenance["excluded"]


def test_shapes_that_differ(base, tmp_path):
    tuned = tuned_with(tmp_path, **{Q: np.ones((48, 41), np.float32)})
    refused(base, tuned, AdapterError, Q, "(48, 40)", "(48, 41)")


def test_a_resized_vocabulary_matters_only_if_it_is_taken(base, tmp_path):
    name = "model.embed_tokens.weight"
    tuned = tuned_with(tmp_path, **{name: np.ones((91, 40), np.float32)})
    assert jt.from_checkpoints(base, tuned, rank=2).modules
    refused(base, tuned, AdapterError, name, "(90, 40)", "(91, 40)", outside_layers=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, ml_dtypes.float8_e4m3fn])
def test_quantised_tensors(base, tmp_path, dtype):
    tuned = tuned_with(tmp_path, **{Q: np.ones((48, 40), dtype)})
    refused(base, tuned, AdapterError, Q, "stored as", "quantised")


def test_packed_weights(base, tmp_path):
    name = "model.layers.0.self_attn.q_proj.qweight"
    tuned = tuned_with(tmp_path, **{Q: None, name: np.ones((6, 40), np.int32)})
    refused(base, tuned, AdapterError, str(tuned), name, "quantised weights")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(base, tmp_path, bad):
    matrix = weights()[Q].copy()
    matrix[3, 4] = bad
    tuned = tuned_with(tmp_path, **{Q: matrix})
    refused(base, tuned, AdapterError, str(tuned), Q, "1 value(s) that are not finite")


def test_an_empty_matrix(tmp_path):
    tensors = {Q: np.ones((0, 40), np.float32)}
    base, tuned = save(tmp_path / "base", tensors), save(tmp_path / "tuned", tensors)
    refused(base, tuned, AdapterError, Q, "is empty")


def test_nothing_differs(base, tmp_path):
    again = save(tmp_path / "again", weights())
    refused(base, again, AdapterError, "nothing differs", "each of 6 matrices")
    refused(base, base, AdapterError, "nothing differs", "which are the same")


def test_settings(base, tmp_path):
    tuned = tuned_with(tmp_path)
    refused(
        base,
        tuned,
        AdapterError,
        "target 'k_proj' matches no module; the checkpoints' matrices are",
        targets=["k_proj"],
    )
    refused(base, tuned, AdapterError, "'k_.*' matches no module", targets="k_.*")
    refused(base, tuned, AdapterError, "not a regular expression", targets="(")
    more = {"targets": ["q_proj"], "outside_layers": True}
    refused(base, tuned, AdapterError, "targets or outside_layers", **more)
    for energy in (0, 1.5, float("nan")):
        refused(base, tuned, AdapterError, "energy is", energy=energy)
    with pytest.raises(AdapterError, match="rank is 0"):
        jt.from_checkpoints(base, tuned, rank=0)


def test_no_matrix_in_layers(tmp_path):
    head = {"lm_head.weight": np.ones((5, 4), np.float32)}
    base = save(tmp_path / "base", head)
    tuned = save(tmp_path / "tuned", {"lm_head.weight": 2 * head["lm_head.weight"]})
    refused(base, tuned, AdapterError, "no matrix in a layer", "lm_head", "outside_layers=True")
    assert jt.from_checkpoints(base, tuned, outside_layers=True).modules


def test_conv1d_or_not_cannot_be_told_without_a_config(tmp_path):
    name = "h.0.mlp.c_fc.weight"
    folders = [save(tmp_path / f"c{n}", {name: np.full((3, 4), n, "f")}) for n in range(2)]
    refused(*folders, AdapterError, name, "expected config.json")


def test_names_that_cannot_be_told_apart(tmp_path):
    names = ("model.layers.0.q.weight", "module.model.layers.0.q.weight")
    folders = [
        save(tmp_path / f"c{n}", {name: np.full((3, 4), n, "f") for name in names})
        for n in range(2)
    ]
    refused(*folders, AdapterError, *(n.removesuffix(".weight") for n in names), "told apart")


def test_a_folder_that_is_taken(base, tmp_path):
    adapter = jt.from_checkpoints(base, tuned_with(tmp_path), rank=2)
    folder = tmp_path / "out"
    write_difference(adapter, folder)
    with pytest.raises(AdapterError, match="exists; give overwrite"):
        write_difference(adapter, folder)
    write_difference(adapter, folder, overwrite=True)
    with pytest.raises(
        AdapterError, match=r"is not an adapter that jaxtask wrote .*; it is left alone"
    ):
        write_difference(adapter, base, overwrite=True)
    with pytest.raises(AdapterError, match="was not made from checkpoints"):
        write_difference(
            jt.load_adapters(folder)
            .adapters[0]
            .__class__(
                "x",
                None,
                {"source": "memory"},
                {key: adapter.entry(key) for key in adapter.modules},
            ),
            tmp_path / "other",
        )


def test_a_full_disk_leaves_nothing(base, tmp_path, monkeypatch):
    adapter = jt.from_checkpoints(base, tuned_with(tmp_path), rank=2)
    folder = tmp_path / "out"
    write_difference(adapter, folder)
    before = {f.name: f.read_bytes() for f in folder.iterdir()}

    def full(tensors, file, metadata):
        file.write_bytes(b"half")
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(AdapterError, match=r"out: cannot be written: No space left"):
        write_difference(adapter, folder, overwrite=True)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before
    with pytest.raises(AdapterError, match="No space left"):
        write_difference(adapter, tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["base", "out", "tuned"]
