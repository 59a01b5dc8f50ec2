"""Two checkpoints as an adapter: values, what is left out, what is written and read again."""

import json
import os
import re

import numpy as np
import pytest
from safetensors.numpy import load_file

import jaxtask as jt
from extract.checkpoints import LAYERS, SHAPES, changed, path, save, truncated, weights
from jaxtask.adapters import ModuleKey, load_adapters
from jaxtask.extract.write import write_difference

IN_LAYERS = {ModuleKey(n, module) for n in range(LAYERS) for module in SHAPES}


def two(tmp_path, rank=3, noise=0.0, dtype=np.float32, **options):
    """Both folders, and the updates by tensor name."""
    before = weights(dtype=dtype)
    after, updates = changed(before, rank, noise)
    return save(tmp_path / "base", before), save(tmp_path / "tuned", after, **options), updates


def assert_truncated(adapter, updates, k, tolerance=1e-5):
    for key in adapter.modules:
        matrix = updates[f"{adapter.path(key)}.weight"]
        best, s = truncated(matrix, k)
        error = np.linalg.norm(adapter.load(key).dense() - best, 2)
        assert error <= tolerance * s[0], key


@pytest.mark.parametrize("shards", [1, 3])
def test_the_update_of_every_matrix_in_layers(tmp_path, shards):
    base, tuned, updates = two(tmp_path, shards=shards)
    adapter = jt.from_checkpoints(base, tuned, rank=8)
    assert set(adapter.modules) == IN_LAYERS
    assert adapter.name == "tuned"
    assert adapter.base_model == str(base)
    assert adapter.provenance["format"] == "difference"
    assert_truncated(adapter, updates, 8)
    assert {shape.rank for shape in adapter.modules.values()} == {3}
    assert adapter.provenance["approximate"] is None
    assert adapter.provenance["excluded"] == {
        "lm_head.weight": "outside any layer (see outside_layers)",
        "model.embed_tokens.weight": "outside any layer (see outside_layers)",
        "model.layers.0-1.input_layernorm.weight": "1 dimension, no matrix",
    }


def test_what_is_recorded_is_true(tmp_path):
    base, tuned, updates = two(tmp_path, rank=4, noise=0.02)
    adapter = jt.from_checkpoints(base, tuned, rank=6)
    told = adapter.provenance["extracted"]
    assert told["rank"] == 6
    assert len(told["modules"]) == len(IN_LAYERS)
    left, whole = 0.0, 0.0
    for key in adapter.modules:
        matrix = updates[f"{adapter.path(key)}.weight"]
        about = told["modules"][adapter.path(key)]
        E = matrix - adapter.load(key).dense()
        s = np.linalg.svd(matrix, compute_uv=False)
        assert about["rank"] == 6
        assert about["norm"] == pytest.approx(np.linalg.norm(matrix), rel=1e-5)
        assert about["residual"] == pytest.approx(np.linalg.norm(E), rel=1e-4)
        assert about["following"] == pytest.approx(s[6], rel=1e-3)
        assert np.linalg.norm(E, 2) <= about["bound"] <= about["residual"]
        left, whole = left + np.linalg.norm(E) ** 2, whole + np.linalg.norm(matrix) ** 2
    assert f"{1 - left / whole:.1%} of the energy" in adapter.provenance["approximate"]


def test_types_may_differ(tmp_path):
    import ml_dtypes

    before = weights(dtype=ml_dtypes.bfloat16)
    after, _ = changed(weights(seed=3), 5, noise=0.1)
    base, tuned = save(tmp_path / "b", before), save(tmp_path / "t", after)
    exact = {n: after[n].astype(float) - before[n].astype(float) for n in after}
    adapter = jt.from_checkpoints(base, tuned, rank=7)
    assert_truncated(adapter, exact, 7)
    wide = save(tmp_path / "w", {n: t.astype(np.float64) for n, t in after.items()})
    again = jt.from_checkpoints(base, wide, rank=7)
    for key in adapter.modules:
        np.testing.assert_array_equal(again.load(key).B, adapter.load(key).B)


@pytest.mark.parametrize("how", ["folder", "file", "index"])
def test_folders_files_and_indices_are_the_same(tmp_path, how):
    base, tuned, _ = two(tmp_path, shards=2 if how == "index" else 1)
    ends = {"folder": "", "file": "model.safetensors", "index": "model.safetensors.index.json"}
    adapter = jt.from_checkpoints(base, tuned / ends[how], rank=2)
    again = jt.from_checkpoints(base, tuned, rank=2)
    assert adapter.digest() == again.digest()
    assert adapter.name == "tuned"
    told = [a.provenance["extracted"]["tuned"]["digest"] for a in (adapter, again)]
    assert told[0] == told[1]
    assert told[0] != adapter.provenance["extracted"]["base"]["digest"]


def test_a_model_in_the_local_cache(tmp_path, monkeypatch):
    import huggingface_hub

    base, tuned, _ = two(tmp_path)

    def look_up(repository, name):
        held = {"org/base": base, "org/tuned": tuned}[repository] / name
        return str(held) if held.exists() else None

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", look_up)
    adapter = jt.from_checkpoints("org/base", "org/tuned", rank=2)
    assert (adapter.name, adapter.base_model) == ("tuned", "org/base")


def test_one_module_is_the_same_whatever_else_is_taken(tmp_path):
    base, tuned, _ = two(tmp_path, noise=0.1)
    whole = jt.from_checkpoints(base, tuned, rank=4)
    part = jt.from_checkpoints(base, tuned, rank=4, targets=["v_proj"])
    assert set(part.modules) == {ModuleKey(n, "self_attn.v_proj") for n in range(LAYERS)}
    for key in part.modules:
        np.testing.assert_array_equal(part.load(key).A, whole.load(key).A)
    left = part.provenance["excluded"]
    assert left["model.layers.0-1.mlp.up_proj.weight"] == "not among the targets"


def test_targets_as_a_regular_expression(tmp_path):
    base, tuned, _ = two(tmp_path)
    adapter = jt.from_checkpoints(base, tuned, rank=4, targets=r".*layers\.1\..*|lm_head")
    assert set(adapter.modules) == {
        ModuleKey(-1, "lm_head"),
        *(ModuleKey(1, module) for module in SHAPES),
    }


def test_a_matrix_that_is_equal_is_left_out_and_compared_as_missing(tmp_path):
    before = weights()
    touched = f"{path(0, 'self_attn.q_proj')}.weight"
    one, _ = changed(before, 2, seed=1, names={touched})
    other, _ = changed(before, 2, seed=2)
    base = save(tmp_path / "base", before)
    adapters = [
        jt.from_checkpoints(base, save(tmp_path / name, tensors), rank=4)
        for name, tensors in (("one", one), ("other", other))
    ]
    assert set(adapters[0].modules) == {ModuleKey(0, "self_attn.q_proj")}
    left = adapters[0].provenance["excluded"]
    assert left["model.layers.1.self_attn.q_proj.weight"] == "equal in both checkpoints"
    assert left["model.layers.0-1.mlp.up_proj.weight"] == "equal in both checkpoints"
    ds = jt.compare(jt.AdapterBank(adapters), metrics=["grassmann", "cosine"], sides=("out",))
    pair = ds["grassmann_out"].sel(source="one", target="other")
    assert np.isfinite(pair.sel(layer=0, module="self_attn.q_proj"))
    assert np.isfinite(pair).sum() == 1


def test_spaces_of_two_tasks_as_without_noise(tmp_path, within):
    """The comparison of extracted adapters: every angle within the perturbation of both spaces."""
    d, k, noise = 300, 4, 0.003
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((d, 2 * k)))[0]
    angles = np.array([0.1, 0.4, 0.9, 1.3])
    spaces = Q[:, :k], Q[:, :k] * np.cos(angles) + Q[:, k:] * np.sin(angles)
    name = "model.layers.0.self_attn.q_proj.weight"
    before = rng.standard_normal((d, d)).astype(np.float32)
    adapters, turned = [], 0.0
    base = save(tmp_path / "base", {name: before})
    for n, U in enumerate(spaces):
        V = np.linalg.qr(rng.standard_normal((d, k)))[0]
        N = noise * rng.standard_normal((d, d))
        after = (before + (U * np.linspace(3, 2, k)) @ V.T + N).astype(np.float32)
        tuned = save(tmp_path / f"t{n}", {name: after})
        adapters.append(jt.from_checkpoints(base, tuned, rank=k))
        observed = after.astype(np.float64) - before
        sigma = np.linalg.svd(observed, compute_uv=False)[k - 1]
        rounding = 2 * np.sqrt(d) * 1e-6
        turned += np.arcsin((np.linalg.norm(N, 2) + rounding) / sigma)  # Wedin
    ds = jt.compare(jt.AdapterBank(adapters), metrics=["grassmann"], keep=["angles"])
    found = ds["angles_out"].sel(source="t0", target="t1").values.ravel()
    assert turned < 0.2
    within("extract: angles between tasks over Wedin's bound", abs(found - angles).max(), turned)


def test_written_and_read_again(tmp_path):
    base, tuned, _ = two(tmp_path, rank=3, noise=0.05)
    adapter = jt.from_checkpoints(base, tuned, rank=20, energy=0.95, name="task")
    ranks = {shape.rank for shape in adapter.modules.values()}
    assert len(ranks) > 1
    folder = tmp_path / "out" / "adapter"
    write_difference(adapter, folder, command="jaxtask extract")
    (read,) = load_adapters(folder).adapters
    assert read.modules == adapter.modules
    for key in adapter.modules:
        assert read.entry(key).scale == 1
        for letter in "BA":
            ours, theirs = (getattr(a.load(key), letter) for a in (adapter, read))
            np.testing.assert_array_equal(ours, theirs)
    assert not [note for note in read.provenance["notes"] if "rank" in note and "config" in note]
    for field in ("excluded", "approximate"):
        assert read.provenance[field] == adapter.provenance[field]
    assert read.provenance["extracted"]["tuned"] == adapter.provenance["extracted"]["tuned"]
    modules = jt.AdapterBank([read]).describe()["adapters"][0]["modules"]
    shares = [m["kept"] for m in adapter.provenance["extracted"]["modules"].values()]
    assert min(m["kept"][0] for m in modules.values()) == min(shares) >= 0.95
    told = json.loads((folder / "jaxtask.json").read_text())
    assert (told["task"], told["command"]) == ("task", "jaxtask extract")
    assert sorted(os.listdir(folder.parent)) == ["adapter"]


WHOLE = {"excluded": {}, "notes": [], "modules": {}}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"extracted": {"rank": ', "is not valid JSON"),
        ({"extracted": 3}, "extracted is 3, expected an object"),
        ({"extracted": WHOLE | {"excluded": {"x": []}}}, r"'x' is \[\], expected a text"),
        ({"extracted": WHOLE | {"notes": "ab"}}, "notes is 'ab', expected a list of texts"),
        ({"extracted": WHOLE | {"notes": [None]}}, "expected a list of texts"),
        ({"extracted": WHOLE | {"approximate": {}}}, "'approximate' is {}, expected a text"),
        ({"extracted": WHOLE | {"modules": {"m": {"kept": 1}}}}, "kind is None, expected linear"),
        ({"extracted": WHOLE | {"modules": {"m": {"kind": "linear", "kept": 2}}}}, "kept is 2"),
        ({"extracted": WHOLE | {"modules": {"m": {"kind": "linear"}}}}, "kept is None"),
        ({"exported": {"excluded": {"x": "y"}}, "extracted": WHOLE}, "exported.notes is None"),
    ],
)
def test_an_origin_that_is_not_ours_is_noted(text, why, tmp_path):
    """And nothing of it is taken."""
    base, tuned, _ = two(tmp_path)
    write_difference(jt.from_checkpoints(base, tuned, rank=2), tmp_path / "a")
    text = text if isinstance(text, str) else json.dumps(text)
    (tmp_path / "a" / "jaxtask.json").write_text(text)
    bank = load_adapters(tmp_path / "a")
    (note,) = bank.describe()["adapters"][0]["notes"]
    assert re.search(f"jaxtask.json was not understood: .*{why}", note)
    assert not {"extracted"} & bank.adapters[0].provenance.keys()
    assert not bank.adapters[0].provenance["excluded"]


def test_embeddings_and_heads_on_request(tmp_path):
    base, tuned, updates = two(tmp_path)
    adapter = jt.from_checkpoints(base, tuned, rank=8, outside_layers=True)
    outside = {ModuleKey(-1, "embed_tokens"), ModuleKey(-1, "lm_head")}
    assert set(adapter.modules) == IN_LAYERS | outside
    assert_truncated(adapter, updates, 8)
    write_difference(adapter, tmp_path / "a")
    names = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert names["base_model.model.model.embed_tokens.lora_embedding_A"].shape == (3, 90)
    assert names["base_model.model.lm_head.lora_A.weight"].shape == (3, 40)
    (read,) = load_adapters(tmp_path / "a").adapters
    for key in outside:
        np.testing.assert_array_equal(read.load(key).dense(), adapter.load(key).dense())


EMBEDDINGS = ("model.embed_tokens", "bert.embeddings.word_embeddings", "wte", "gpt_neox.embed_in")
OTHERS = ("lm_head", "embed_out", "encoder.embedding_hidden_mapping_in", "pooler.dense")


def test_embeddings_are_told_by_their_names(tmp_path):
    folders = [
        save(tmp_path / f"c{n}", {f"{x}.weight": np.eye(6, 4, n, "f") for x in EMBEDDINGS + OTHERS})
        for n in range(2)
    ]
    adapter = jt.from_checkpoints(*folders, outside_layers=True)
    kinds = {p: m["kind"] for p, m in adapter.provenance["extracted"]["modules"].items()}
    assert kinds == dict.fromkeys(EMBEDDINGS, "embedding") | dict.fromkeys(OTHERS, "linear")


@pytest.mark.parametrize("model_type", ["gpt2", "gpt_bigcode"])
def test_conv1d_is_stored_the_other_way_round(tmp_path, model_type):
    rng = np.random.default_rng(0)
    name = "h.0.attn.c_attn.weight"
    before = {name: rng.standard_normal((20, 60)).astype(np.float32)}
    after, updates = changed(before, 2)
    base = save(tmp_path / "base", before, {"model_type": model_type})
    adapter = jt.from_checkpoints(base, save(tmp_path / "tuned", after), rank=4)
    delta = adapter.load(ModuleKey(0, "attn.c_attn")).dense()
    expected = updates[name].T if model_type == "gpt2" else updates[name]
    np.testing.assert_allclose(delta, expected, atol=1e-5)
    write_difference(adapter, tmp_path / "a")
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["fan_in_fan_out"] == (model_type == "gpt2")


def test_progress_counts_all_bytes(tmp_path):
    base, tuned, _ = two(tmp_path)
    seen = []
    jt.from_checkpoints(base, tuned, rank=2, progress=lambda *at: seen.append(at))
    assert len(seen) == len(IN_LAYERS)
    assert seen == sorted(seen)
    size = sum(LAYERS * m * n * 4 * 2 for m, n in SHAPES.values())
    assert seen[-1] == (size, size)


def test_stacks_are_told_apart_as_those_of_adapters(tmp_path):
    """Also of models that nobody has heard of; what is no name of a module is left out."""
    names = [
        "bert.encoder.layer.0.q",
        "roberta.encoder.layer.0.q",
        "zorg.stage_one.3.mix",
        "odd..w",
        "base_model.model",
    ]
    folders = [
        save(tmp_path / f"c{n}", {f"{name}.weight": np.full((3, 4), n, "f") for name in names})
        for n in range(2)
    ]
    adapter = jt.from_checkpoints(*folders, rank=1)
    pair = np.ones((3, 1)), np.ones((1, 4))
    bank = jt.AdapterBank.from_factors({"a": dict.fromkeys(names[:3], pair)})
    assert adapter.modules.keys() == bank.adapters[0].modules.keys()
    assert adapter.provenance["excluded"].keys() == {
        "odd..w.weight",
        "base_model.model.weight",
    }


def test_keys_are_those_of_the_written_adapter(tmp_path):
    """Which holds only what differs: a stack that was not trained is no second one there."""
    rng = np.random.default_rng(0)
    names = [f"{model}.encoder.layer.0.q.weight" for model in ("bert", "roberta")]
    tensors = {name: rng.standard_normal((6, 5)) for name in names}
    base = save(tmp_path / "base", tensors)
    tuned = save(tmp_path / "tuned", changed(tensors, 1, names=names[1:])[0])
    adapter = jt.from_checkpoints(base, tuned, rank=1)
    write_difference(adapter, tmp_path / "written")
    (read,) = load_adapters(tmp_path / "written").adapters
    assert [*adapter.modules] == [*read.modules] == [(0, "q")]
