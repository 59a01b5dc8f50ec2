"""Adapters written in PEFT's and mlx-lm's formats: ΔW stays what it was, against NumPy float64."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

import jaxtask as jt
from adapters.adapter_files import PREFIX, peft_tensors
from jaxtask.adapters import AdapterBank, load_adapters
from jaxtask.cli.main import app
from jaxtask.errors import AdapterError

WEIGHTS = {"peft": "adapter_model.safetensors", "mlx": "adapters.safetensors"}
FORMATS = pytest.mark.parametrize("form", ["peft", "mlx"])
EMBED = "base_model.model.model.embed_tokens"


def normal(*shape, dtype=np.float32):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def only(path):
    (adapter,) = load_adapters(path).adapters
    return adapter


def assert_same(one, other, rtol=0.0):
    assert set(one.modules) == set(other.modules)
    for key in one.modules:
        expected, found = one.load(key).dense(), other.load(key).dense()
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


@FORMATS
def test_one_scaling_is_exact(write, tmp_path, form):
    """The stored factors are the same bits, in the types that they were stored in."""
    tensors = peft_tensors()
    for name in list(tensors)[:2]:
        tensors[name] = tensors[name].astype(ml_dtypes.bfloat16)
    tensors[f"{EMBED}.lora_embedding_A"] = normal(4, 11).astype(np.float16)
    tensors[f"{EMBED}.lora_embedding_B"] = normal(5, 4)
    source = write(tensors)
    written = jt.export_adapter(source, tmp_path / "out", format=form)
    assert written.provenance["format"] == form
    assert written.base_model == "org/base"
    assert_same(only(source), written)
    held = load_file(tmp_path / "out" / WEIGHTS[form])
    if form == "peft":
        assert set(held) == set(tensors)
        for name, tensor in tensors.items():
            assert held[name].dtype == tensor.dtype
            assert held[name].tobytes() == tensor.tobytes()
    else:
        a, b = (held[f"model.layers.0.self_attn.q_proj.lora_{side}"] for side in "ab")
        A, B = (tensors[f"{PREFIX}0.self_attn.q_proj.lora_{side}.weight"] for side in "AB")
        assert a.tobytes() == np.ascontiguousarray(A.T).tobytes()
        assert b.tobytes() == np.ascontiguousarray(B.T).tobytes()
        np.testing.assert_array_equal(
            held["model.embed_tokens.lora_a"], tensors[f"{EMBED}.lora_embedding_A"].T
        )
        config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
        assert config == {
            "fine_tune_type": "lora",
            "model": "org/base",
            "num_layers": -1,
            "lora_parameters": {
                "rank": 4,
                "scale": 2.0,
                "dropout": 0.0,
                "keys": ["model.embed_tokens", "self_attn.q_proj"],
            },
        }


@FORMATS
def test_there_and_back(write, tmp_path, form):
    """Ranks and scalings that differ from module to module, through both formats."""
    modules = [f"{n}.self_attn.{m}_proj" for n in range(3) for m in "qv"]
    tensors = peft_tensors(modules)
    tensors |= peft_tensors(("2.mlp.up_proj",), r=3)
    source = write(
        tensors,
        use_rslora=True,
        rank_pattern={"up_proj": 3},
        alpha_pattern={"0.self_attn.v_proj": 7},
    )
    here, there = tmp_path / "here", tmp_path / "there"
    other = {"peft": "mlx", "mlx": "peft"}[form]
    jt.export_adapter(source, here, format=form)
    back = jt.export_adapter(here, there, format=other)
    assert {round(back.entry(key).scale, 6) for key in back.modules}
    assert_same(only(source), only(here), rtol=1e-15 if form == "peft" else 1e-7)
    assert_same(only(source), back, rtol=2e-7)
    noted = [note for note in back.provenance["notes"] if "multiplied into B" in note]
    assert noted
    assert not (here / WEIGHTS[other]).exists()


def test_all_that_is_read_can_be_a_source(tmp_path):
    rng = np.random.default_rng(0)
    factors = {
        "model.layers.0.self_attn.q_proj": (
            rng.standard_normal((6, 2)),
            rng.standard_normal((2, 5)),
        ),
        "model.embed_tokens": (normal(9, 3), normal(3, 5)),
    }
    bank = AdapterBank.from_factors({"made": factors}, base_model="org/base")
    for form in WEIGHTS:
        written = jt.export_adapter(bank, tmp_path / form, format=form)
        assert_same(bank.adapters[0], written, rtol=0 if form == "peft" else 2e-7)
        assert written.entry(next(iter(written.modules))).kind == "embedding"
    assert any("float64 rounded" in note for note in written.provenance["notes"])
    file = tmp_path / "pytorch_lora_weights.safetensors"
    path = "unet.down_blocks.0.to_q"
    save_file({f"{path}.lora_A.weight": normal(2, 5), f"{path}.lora_B.weight": normal(4, 2)}, file)
    written = jt.export_adapter(file, tmp_path / "unet")
    (key,), (source,) = written.modules, only(file).modules
    assert written.path(key) == f"{PREFIX.removesuffix('model.layers.')}down_blocks.0.to_q"
    np.testing.assert_array_equal(written.load(key).dense(), only(file).load(source).dense())


def test_adalora_becomes_plain(write, tmp_path):
    name = f"{PREFIX}0.self_attn.q_proj"
    tensors = peft_tensors(("0.self_attn.q_proj",)) | {f"{name}.lora_E": normal(4, 1)}
    source = write(tensors, peft_type="ADALORA", init_r=12)
    assert_same(only(source), jt.export_adapter(source, tmp_path / "out"), rtol=1e-15)


@FORMATS
def test_what_was_left_out_is_said(write, tmp_path, form):
    head = "base_model.model.score.weight"
    source = write(peft_tensors() | {head: normal(2, 5)}, modules_to_save=["score"])
    written = jt.export_adapter(source, tmp_path / "out", format=form)
    assert head in written.provenance["excluded"]
    assert head not in load_file(tmp_path / "out" / WEIGHTS[form])
    done = CliRunner().invoke(
        app, ["export", str(source), "--format", form, "--out", str(tmp_path / "two"), "--json"]
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["format"], head in told["excluded"]) == (form, True)
    done = CliRunner().invoke(app, ["export", str(source), "--out", str(tmp_path / "three")])
    assert f"left out: {head}" in done.stdout.replace("\n", "")


def test_the_place_is_kept_free(write, tmp_path):
    source, out = write(), tmp_path / "out"
    jt.export_adapter(source, out)
    with pytest.raises(AdapterError, match="exists"):
        jt.export_adapter(source, out, format="mlx")
    jt.export_adapter(source, out, format="mlx", overwrite=True)
    assert sorted(p.name for p in out.iterdir()) == [
        "adapter_config.json",
        WEIGHTS["mlx"],
        "jaxtask.json",
    ]
    jt.export_adapter(out, out, overwrite=True)  # onto itself, in the other format
    assert_same(only(source), only(out))
    with pytest.raises(AdapterError, match="is not an adapter that jaxtask wrote"):
        jt.export_adapter(out, source, overwrite=True)


def conv(path):
    return {
        f"{path}.lora_A.weight": normal(2, 3, 3, 3),
        f"{path}.lora_B.weight": normal(5, 2, 1, 1),
    }


@pytest.mark.parametrize(
    ("tensors", "config", "forms", "what"),
    [
        (conv(f"{PREFIX}0.conv"), {"r": 2}, ("peft", "mlx"), "'.*layers.0.conv' .* convolution"),
        (
            peft_tensors(("0.mlp.experts.1.up_proj",)),
            {},
            ("mlx",),
            "'.*experts.1.up_proj' .*expert",
        ),
        (peft_tensors(("0.x.embedding",)), {}, ("mlx",), "'.*embedding' .*by their names"),
        (
            peft_tensors(("0.mlp.experts",), r=8),
            {"target_parameters": ["experts.down_proj"], "target_modules": []},
            ("peft", "mlx"),
            "'.*experts.0.down_proj' .* stack",
        ),
        (
            peft_tensors(scale := ("0.a.q", "1.a.q")),
            {"alpha_pattern": {"1.a.q": 1e60}},
            ("mlx",),
            "beyond",
        ),
        (peft_tensors(scale), {"alpha_pattern": {"1.a.q": 1e-60}}, ("mlx",), "beyond float32"),
    ],
)
def test_what_has_no_form_is_refused(write, tmp_path, tensors, config, forms, what):
    source = write(tensors, **config)
    for form in WEIGHTS:
        if form in forms:
            with pytest.raises(AdapterError, match=what) as error:
                jt.export_adapter(source, tmp_path / form, format=form)
            assert "\n" not in str(error.value)
            assert not (tmp_path / form).exists()
        else:
            assert_same(only(source), jt.export_adapter(source, tmp_path / form), rtol=1e-15)


def test_other_refusals(write, tmp_path):
    source, out = write(), tmp_path / "out"
    both = load_adapters({"a": source, "b": source})
    dora = write(name="dora", use_dora=True)
    with pytest.raises(AdapterError, match=r"expected one adapter, found 2 \(a, b\)"):
        jt.export_adapter(both, out)
    with pytest.raises(AdapterError, match="format is 'gguf', expected peft or mlx"):
        jt.export_adapter(source, out, format="gguf")
    with pytest.raises(AdapterError, match=r"is not exported: .*DoRA"):
        jt.export_adapter(load_adapters(dora, directional=True), out)
    keyed = AdapterBank.from_factors({"x": {jt.ModuleKey(0, "q"): (normal(4, 2), normal(2, 4))}})
    with pytest.raises(AdapterError, match="its path in the model is not known"):
        jt.export_adapter(keyed, out)
    flat = tmp_path / "flat.safetensors"
    name = "lora_te_layers_0_q"
    save_file(
        {f"{name}.lora_down.weight": normal(2, 4), f"{name}.lora_up.weight": normal(4, 2)}, flat
    )
    with pytest.raises(AdapterError, match=f"'{name}' is flattened"):
        jt.export_adapter(flat, out)
    pipeline = tmp_path / "pipeline.safetensors"
    names = ("unet.a.0.q", "text_encoder.a.0.q")
    save_file(
        {
            f"{name}.lora_{side}.weight": normal(2, 4) if side == "A" else normal(4, 2)
            for name in names
            for side in "AB"
        },
        pipeline,
    )
    with pytest.raises(AdapterError, match=r"of several models \(text_encoder, unet\)"):
        jt.export_adapter(pipeline, out)
    with pytest.raises(AdapterError, match="no model that mlx-lm has"):
        jt.export_adapter(pipeline, out, format="mlx")
    assert not out.exists()
    done = CliRunner().invoke(app, ["export", str(source), "--out", str(out), "--format", "gguf"])
    assert isinstance(done.exception, AdapterError)


def test_a_difference_of_checkpoints_stays_one(tmp_path):
    for name, seed in (("base", 0), ("tuned", 1)):
        (tmp_path / name).mkdir()
        rng = np.random.default_rng(seed)
        shapes = {"layers.0.self_attn.q_proj": (6, 5), "embed_tokens": (9, 5)}
        weights = {
            f"model.{path}.weight": rng.standard_normal(shape).astype(np.float32)
            for path, shape in shapes.items()
        }
        save_file(weights, tmp_path / name / "model.safetensors")
    adapter = jt.from_checkpoints(
        tmp_path / "base", tmp_path / "tuned", rank=2, outside_layers=True
    )
    for form in WEIGHTS:
        written = jt.export_adapter(adapter, tmp_path / form, format=form)
        assert_same(adapter, written)
        assert written.provenance["extracted"]["modules"].keys() == {
            f"model.{path}" for path in shapes
        }
        assert written.provenance["approximate"] == adapter.provenance["approximate"]
