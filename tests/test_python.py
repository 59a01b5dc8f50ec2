"""From Python: what `compare` takes, what a bank shows, and whose words errors use."""

import numpy as np
import pytest
from safetensors.numpy import save_file

import jaxtask as jt
from jaxtask.cli.main import _cause


@pytest.fixture
def folder(tmp_path):
    draw = np.random.default_rng(0)
    for name in ("a", "b"):
        place = tmp_path / "adapters" / name
        place.mkdir(parents=True)
        (place / "adapter_config.json").write_text(
            '{"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}'
        )
        base = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
        B, A = draw.standard_normal((9, 2), "f"), draw.standard_normal((2, 8), "f")
        save_file({f"{base}A.weight": A, f"{base}B.weight": B}, place / "adapter_model.safetensors")
    return tmp_path / "adapters"


def test_what_compare_reads_itself(folder):
    bank = jt.load_adapters(folder)
    expected = jt.compare(bank, metrics="cosine")["cosine"].values
    paths = {"a": folder / "a", "b": str(folder / "b")}
    updates = {adapter.name: adapter.load(bank.modules[0]) for adapter in bank}
    factors = {task: {"layers.0.q": (u.B, u.A)} for task, u in updates.items()}
    for given in (folder, str(folder), list(paths.values()), paths, list(bank), factors):
        found = jt.compare(given, metrics="cosine")
        assert found["source"].values.tolist() == ["a", "b"]
        np.testing.assert_array_equal(found["cosine"].values, expected)


@pytest.mark.parametrize("given", [None, 3, [], {}, [3], {"a": 3}, {"a": None, "b": {}}], ids=str)
def test_what_compare_cannot_read_says_how(given):
    with pytest.raises(jt.AdapterError, match=r"compare: got .*expected a path.*load_adapters"):
        jt.compare(given)


def test_a_function_is_no_metric_and_says_what_makes_one(folder):
    def mine(pair):
        return pair.core.sum()

    for given in (mine, [mine], ["cosine", mine]):
        with pytest.raises(jt.JaxtaskError, match=r"a function; jt\.metric\(mine, name=…\)"):
            jt.compare(folder, metrics=given)
    for given in (3, [3], [None]):
        with pytest.raises(jt.JaxtaskError, match="is no name"):
            jt.compare(folder, metrics=given)


def test_a_bank_is_a_sequence_of_adapters(folder):
    bank = jt.load_adapters(folder)
    assert len(bank) == 2
    assert [adapter.name for adapter in bank] == ["a", "b"]
    assert bank["b"] is bank[1] is bank[-1] is bank[np.int64(1)]
    assert repr(bank) == "AdapterBank(2 tasks, 1 modules: 'a', 'b')"
    with pytest.raises(KeyError, match="no task 'c'; tasks are a, b"):
        bank["c"]
    with pytest.raises(IndexError):
        bank[2]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("r exists; give overwrite=True to replace it, append=True to add to it",
         "r exists; give --overwrite to replace it, --append to add to it"),
        ("give resume=True, or work=FOLDER", "give --resume, or --work FOLDER"),
        ("needs summaries=FILE", "needs --summaries FILE"),
        ("training.max_len=N or training.truncate=True", "--max-len N or --truncate"),
        ("pass allow_base_mismatch=True.", "pass --allow-base-mismatch."),
        ("format='x', unknown=True, max_len = 3", "format='x', unknown=True, max_len = 3"),
        ("'overwrite=True' /data/overwrite=True", "'overwrite=True' /data/overwrite=True"),
    ],
)  # fmt: skip
def test_errors_name_options_on_a_command_line(said, told):
    assert _cause(jt.JaxtaskError(said)) == [told]


def test_no_error_names_both_arguments_and_options():
    import re
    from pathlib import Path

    for file in (Path(jt.__file__).parent).rglob("*.py"):
        assert not re.search(r"=(True|[A-Z]+) \(--|\(--[a-z-]+, [a-z_]+=", file.read_text()), file
