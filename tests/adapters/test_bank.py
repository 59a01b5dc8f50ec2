import json

import ml_dtypes
import numpy as np
import pytest

from adapters.adapter_files import WEIGHTS, make_pair, peft_tensors
from jaxtask.adapters import AdapterBank, LowRankUpdate, ModuleKey, load_adapters
from jaxtask.errors import AdapterError

Q, V = ModuleKey(0, "q"), ModuleKey(0, "v")


def bank_of(**tasks):
    return AdapterBank.from_factors(tasks)


def test_union_presence_and_padding():
    small, large = make_pair(0, r=2), make_pair(1, r=5)
    v = make_pair(2, d_out=3)
    bank = bank_of(a={"layers.0.q": small}, b={"layers.0.v": v, "layers.0.q": large}, c={V: v})
    assert bank.modules == (Q, V)
    assert bank.tasks == ("a", "b", "c")
    assert bank.present(Q).tolist() == [0, 1]
    assert bank.present(V).tolist() == [1, 2]
    assert bank.shape(Q) == (6, 5, 5)
    assert bank.adapters[0].modules[Q].rank == 2
    stack = bank.stack(Q, [1, 0])
    assert (stack.B.shape, stack.A.shape) == ((2, 6, 5), (2, 5, 5))
    assert stack.B.dtype == stack.A.dtype == np.float32
    for i, (B, A) in enumerate([large, small]):
        exact = B.astype(float) @ A.astype(float)
        np.testing.assert_allclose(
            stack.B[i].astype(float) @ stack.A[i].astype(float), exact, rtol=1e-14
        )
    np.testing.assert_array_equal(stack.B[1, :, 2:], 0)
    np.testing.assert_array_equal(stack.A[1, 2:], 0)
    assert stack.scale.tolist() == [1.0, 1.0]


def test_float64_and_eps():
    B, A = make_pair(0, dtype=np.float64)
    narrow = make_pair(1, dtype=ml_dtypes.bfloat16)
    bank = bank_of(
        a={"q": (B, A), "v": make_pair(3)},
        b={"q": LowRankUpdate(*make_pair(1), scale=0.25), "v": narrow},
    )
    q, v = ModuleKey(-1, "q"), ModuleKey(-1, "v")
    assert (bank.dtype(q), bank.dtype(v)) == (np.float64, np.float32)
    stack = bank.stack(q, [0, 1])
    assert stack.B.dtype == np.float64
    assert stack.eps.tolist() == [np.finfo(np.float64).eps, np.finfo(np.float32).eps]
    assert stack.scale.tolist() == [1.0, 0.25]
    np.testing.assert_array_equal(stack.B[0], B)
    stack = bank.stack(v, [1])
    assert stack.eps.tolist() == [np.finfo(np.float32).eps]
    np.testing.assert_array_equal(stack.A[0], narrow[1].astype(np.float32))


def test_jax_arrays():
    jnp = pytest.importorskip("jax.numpy")
    B, A = (jnp.asarray(x).astype(jnp.bfloat16) for x in make_pair(0))
    update = bank_of(a={"q": (B, A)}).adapters[0].load(ModuleKey(-1, "q"))
    assert update.B.dtype == np.float32
    np.testing.assert_array_equal(update.B, np.asarray(B.astype(jnp.float32)))


def test_stack_of_no_tasks():
    assert bank_of(a={"q": make_pair(0)}).stack(ModuleKey(-1, "q"), []).B.shape == (0, 6, 4)


def test_stack_refuses_what_is_not_there():
    bank = bank_of(a={"q": make_pair(0)}, b={"v": make_pair(0)})
    with pytest.raises(AdapterError, match=r"adapter 'b' has no module \(-1, 'q'\)"):
        bank.stack(ModuleKey(-1, "q"), [0, 1])
    with pytest.raises(AdapterError, match="no task 2"):
        bank.stack(ModuleKey(-1, "q"), [2])
    with pytest.raises(AdapterError, match="no task -1"):
        bank.stack(ModuleKey(-1, "q"), [-1])
    for method in (bank.shape, bank.present, bank.dtype):
        with pytest.raises(AdapterError, match=r"no adapter has a module \(7, 'q'\)"):
            method(ModuleKey(7, "q"))


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ((np.ones((3, 2), int), np.ones((2, 3))), "module 'q': B has type int64"),
        ((np.ones((3, 2)), np.ones((2, 3), ml_dtypes.float8_e4m3fn)), "A has type float8_e4m3fn"),
        ((np.ones((3, 2)), np.ones((3, 3))), "module 'q': .* do not chain"),
        ((np.ones((3, 2)), np.full((2, 3), np.nan)), "A holds values that are not finite"),
        ((np.ones(3), np.ones((2, 3))), "two-dimensional"),
        ((np.ones((3, 0)), np.ones((0, 3))), "not empty"),
        ((np.ones((3, 2)),), "expected a pair"),
        (3, "expected a pair"),
    ],
)
def test_factors_that_are_refused(given, what):
    with pytest.raises(AdapterError, match=what) as error:
        bank_of(a={"q": given})
    assert "adapter 'a'" in str(error.value)


def test_empty():
    with pytest.raises(AdapterError, match="no adapter was given"):
        AdapterBank([])
    with pytest.raises(AdapterError, match=r"adapter 'a' .* has no module"):
        bank_of(a={})


def test_duplicate_names():
    (adapter,) = bank_of(a={"q": make_pair(0)}).adapters
    with pytest.raises(AdapterError, match="two adapters are called 'a'"):
        AdapterBank([adapter, adapter])


@pytest.mark.parametrize("shape", [{"d_out": 7}, {"d_in": 4}])
def test_different_widths(shape):
    with pytest.raises(AdapterError) as error:
        bank_of(one={"layers.2.q": make_pair(0)}, two={"layers.2.q": make_pair(0, **shape)})
    message = str(error.value)
    sizes = f"{shape.get('d_out', 6)} × {shape.get('d_in', 5)}"
    assert all(part in message for part in ("'one'", "'two'", "(2, 'q')", "6 × 5", sizes))


def with_bases(*bases):
    adapters = []
    for i, base in enumerate(bases):
        factors = {f"t{i}": {"q": make_pair(i)}}
        adapters.extend(AdapterBank.from_factors(factors, base_model=base).adapters)
    return adapters


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("org/base", "org/other"),
        ("org/base", "fork/base"),
        ("gpt2", "gpt2-medium"),
        ("/models/base-v1", "org/base-v2"),
        ("/cache/models--org--base/snapshots/0123", "fork/base"),
    ],
)
def test_different_bases(first, second):
    with pytest.raises(AdapterError) as error:
        AdapterBank(with_bases(first, None, second))
    assert all(part in str(error.value) for part in ("'t0'", "'t2'", first, second))
    bank = AdapterBank(with_bases(first, None, second), allow_base_mismatch=True)
    assert any("allowed on request" in note for note in bank.notes)
    assert bank.base_model == first


@pytest.mark.parametrize(
    ("first", "second", "noted"),
    [
        ("org/base", "org/base", False),
        ("org/base", "Org/BASE", True),
        ("gpt2", "openai-community/gpt2", True),
        ("/models/org/base/", "org/base", True),
        ("./base", "base", True),
        ("C:\\models\\base", "org/base", True),
        ("/cache/models--org--base/snapshots/0123", "org/base", True),
        (None, "org/base", True),
        ("", "org/base", True),
        (None, None, False),
    ],
)
def test_bases_that_may_be_one(first, second, noted):
    bank = AdapterBank(with_bases(first, second))
    assert bool(bank.notes) == noted
    assert bank.base_model == (first or second)


def test_describe(write):
    write(name="run/a", use_rslora=True)
    modules = ["0.self_attn.q_proj", "2.self_attn.q_proj", "0.mlp.up_proj"]
    folder = write(peft_tensors(modules, r=2), "run/b", modules_to_save=["head"])
    summary = load_adapters(folder.parent).describe()
    assert json.loads(json.dumps(summary)) == summary
    assert summary["tasks"] == ["a", "b"]
    assert summary["modules"] == 4
    assert summary["base_model"] == "org/base"
    first, second = summary["adapters"]
    assert first["modules"]["self_attn.q_proj"] == {
        "layers": [0, 1],
        "shapes": [[6, 5]],
        "ranks": [4],
        "scalings": [4.0],
        "dtypes": ["float32"],
    }
    assert second["modules"]["self_attn.q_proj"]["layers"] == [0, 2]
    assert second["excluded"].keys() == {"modules_to_save"}
    assert "rank 2, the config says 4" in second["notes"][0]
    assert second["source"] == str(folder / WEIGHTS)


def test_real_adapters(real_adapters):
    """Names, shapes and one dense update, read a second way through the safetensors package."""
    from safetensors.numpy import load_file

    with pytest.raises(AdapterError, match="different base models"):
        load_adapters(real_adapters)
    bank = load_adapters(str(real_adapters / "roberta*"))
    assert len(bank.tasks) == 4
    bank = load_adapters(str(real_adapters / "roberta*mrpc*"))
    assert bank.tasks == tuple(f"roberta-base-r8-qv-mrpc-ckpt{n}" for n in (230, 460))
    assert bank.base_model == "roberta-base"
    assert len(bank.modules) == 24
    key = ModuleKey(11, "attention.self.value")
    assert bank.shape(key) == (768, 768, 8)
    stack = bank.stack(key, [1])
    tensors = load_file(real_adapters / bank.tasks[1] / WEIGHTS)
    path = "base_model.model.roberta.encoder.layer.11.attention.self.value"
    np.testing.assert_array_equal(stack.B[0], tensors[f"{path}.lora_B.weight"])
    np.testing.assert_array_equal(stack.A[0], tensors[f"{path}.lora_A.weight"])
    assert stack.scale[0] == 2.0
    excluded = bank.adapters[0].provenance["excluded"]
    assert sum(name.startswith("base_model.model.classifier") for name in excluded) == 4
    distilbert = load_adapters(real_adapters / "distilbert-r8-imdb").adapters[0]
    heads = [n for n in distilbert.provenance["excluded"] if n.endswith(("weight", "bias"))]
    assert sorted(n.split(".")[2] for n in heads) == ["classifier"] * 2 + ["pre_classifier"] * 2
    assert len(load_adapters(str(real_adapters / "gpt2*")).tasks) == 7
    gpt2 = load_adapters(str(real_adapters / "gpt2*kto*"))
    assert gpt2.tasks == tuple(f"gpt2-r16-cattn-kto-ckpt{n}" for n in (500, 1000))
    assert gpt2.modules == tuple(ModuleKey(layer, "attn.c_attn") for layer in range(12))
    assert gpt2.shape(gpt2.modules[0]) == (2304, 768, 16)


def test_numbers_in_names_sort_by_value(write, tmp_path):
    import shutil

    first = write(peft_tensors())
    for n in ("1000", "500", "0500b", "20"):
        shutil.copytree(first, tmp_path / "runs" / f"checkpoint-{n}")
    expected = tuple(f"checkpoint-{n}" for n in ("20", "500", "0500b", "1000"))
    assert load_adapters(tmp_path / "runs").tasks == expected
    assert load_adapters(str(tmp_path / "runs" / "*")).tasks == expected


def test_all_refusals_at_once(write, tmp_path):
    import shutil

    first = write(peft_tensors())
    for name in "abcd":
        shutil.copytree(first, tmp_path / "runs" / name)
    (tmp_path / "runs" / "b" / WEIGHTS).write_bytes(b"no tensors")
    with pytest.raises(AdapterError) as one:
        load_adapters(tmp_path / "runs")
    assert str(one.value).startswith(str(tmp_path / "runs" / "b"))
    (tmp_path / "runs" / "d" / WEIGHTS).write_bytes(b"")
    with pytest.raises(AdapterError, match=r"^2 of 4 adapters .*runs/b/.*; .*runs/d/") as two:
        load_adapters(tmp_path / "runs")
    assert "\n" not in str(two.value)
    bank = load_adapters(tmp_path / "runs", skip_unreadable=True)
    assert bank.tasks == ("a", "c")
    assert [note.startswith("skipped: ") for note in bank.describe()["notes"]] == [True, True]
    with pytest.raises(AdapterError, match=r"^2 of 2 adapters"):
        load_adapters([tmp_path / "runs" / n for n in "bd"], skip_unreadable=True)


def test_adapters_that_share_no_module():
    pair = make_pair(1)
    q, v = {"layers.0.q": pair}, {"layers.0.v": pair}
    assert bank_of(a=q, b={**q, **v}).describe()["notes"] == []
    (note,) = bank_of(a=q, b=q, c=v).describe()["notes"]
    assert note == "2 of 3 pairs of adapters share no module: such as 'a' and 'c'."
    (note,) = bank_of(a=q, b=v).describe()["notes"]
    assert note.startswith("NO two adapters share a module")
