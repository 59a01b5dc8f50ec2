"""The command line, run as a user runs it."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import typer
from safetensors.numpy import load_file, save_file

import jaxtask as jt
from jaxtask.cli.main import app
from jaxtask.finetune.recipe import Recipe
from planted import write_family
from shell import ENV, run


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    folder = tmp_path_factory.mktemp("family")
    write_family(folder)
    return folder


@pytest.fixture(scope="module")
def result(family):
    out = family.parent / "result.zarr"
    run("compare", family, "--out", out, "--metrics", "grassmann,cosine,martin,containment")
    return out


@pytest.mark.process
@pytest.mark.slow
def test_compare_prints_and_writes(family, result):
    ds = jt.open_result(result)
    assert ds.sizes["source"] == 7
    assert ds.attrs["command"].startswith("jaxtask compare ")
    shown = run("show", result).stdout
    for word in ("grassmann_out", "cosine", "topic-a-narrow", "7 tasks", "2 module types"):
        assert word in shown
    # The planted structure is what the table says.
    pooled = jt.pool(ds, "grassmann_out")
    assert pooled.sel(source="topic-a1", target="topic-a1-again") < 8e-6
    assert pooled.sel(source="topic-a1", target="topic-a2") < pooled.sel(
        source="topic-a1", target="topic-b1"
    )
    inside = jt.pool(ds, "containment_out")
    assert inside.sel(source="topic-a1", target="topic-a-narrow") < 1e-5
    assert inside.sel(source="topic-a-narrow", target="topic-a1") > 3


@pytest.mark.process
@pytest.mark.slow
def test_json_is_all_of_standard_output(family, result):
    direct = json.loads(run("compare", family, "--metrics", "cosine", "--json").stdout)
    assert direct["tasks"] == jt.open_result(result)["source"].values.tolist()
    again = json.loads(run("show", result, "--show", "cosine", "--json").stdout)
    np.testing.assert_allclose(direct["pooled"]["cosine"], again["pooled"]["cosine"], atol=1e-6)
    one = json.loads(
        run("show", result, "--layer", 1, "--module", "self_attn.v_proj", "--json").stdout
    )
    assert one["sizes"] == {"layer": 1, "module": 1}


@pytest.mark.process
@pytest.mark.slow
def test_options_reach_the_engine(family, tmp_path):
    out = tmp_path / "r.zarr"
    run(
        *("compare", f"x={family}/topic-a1", f"y={family}/topic-a-narrow", "--out", out),
        *("--metrics", "grassmann", "--sides", "in", "--dtype", "float64", "--padding", "none"),
        *("--keep", "angles,spectra", "--memory-budget", "64MiB", "--rank-rtol", "1e-4"),
    )
    ds = jt.open_result(out)
    assert ds["source"].values.tolist() == ["x", "y"]
    assert {"grassmann_in", "angles_in", "spectra", "projected"} <= set(ds.data_vars)
    assert "grassmann_out" not in ds
    assert ds["grassmann_in"].dtype == np.float64
    assert float(jt.pool(ds, "grassmann_in")[0, 1]) < 1e-5
    assert (ds.attrs["padding"], ds.attrs["rank_rtol"]) == ("none", 1e-4)


@pytest.mark.process
def test_inspect(family):
    shown = run("inspect", family / "topic-a-narrow").stdout
    for word in ("planted", "self_attn.q_proj", "0–3", "128 × 128", "3", "2", "float32"):
        assert word in shown
    told = json.loads(run("inspect", family, "--json").stdout)
    assert [a["name"] for a in told["adapters"]] == told["tasks"]


@pytest.mark.process
def test_help_and_metrics():
    assert "\n\n  Exit status" in run("--help").stdout
    for command in ("compare", "show", "inspect", "metrics", "demo"):
        assert "--help" in run(command, "--help").stdout
    listed = json.loads(run("metrics", "--json").stdout)
    assert [m["name"] for m in listed] == list(jt.metrics.METRICS)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["compare", "{family}", "--metrics", "grasmann"],
            ["grasmann", "did you mean 'grassmann'"],
        ),
        (["compare", "{family}", "--sides", "left"], ["left", "out, in"]),
        (["compare", "{family}", "--dtype", "float16"], ["float16", "float32, float64"]),
        (["compare", "{family}", "--memory-budget", "much"], ["much", "500MB"]),
        (["compare", "{family}", "--memory-budget", "1kB"], ["too small", "128×128"]),
        (["compare", "{family}", "--out", "{result}"], ["exists", "--overwrite"]),
        (["compare", "{family}", "--out", "{family}/no/r.zarr"], ["not a folder"]),
        (["compare", "{family}/nothing"], ["nothing"]),
        (["compare", "a={family}/topic-a1", "{family}/topic-a2"], ["NAME=PATH"]),
        (["compare", "a={family}/topic-a1", "a={family}/topic-a2"], ["two adapters are named 'a'"]),
        (["show", "{family}"], ["not a"]),
        (["show", "{result}", "--show", "rec"], ["rec", "not in this result"]),
        (["show", "{result}", "--layer", "9"], ["no layer 9", "0, 1, 2, 3"]),
    ],
)
def test_bad_input_is_one_line_and_status_1(arguments, words, family, result):
    filled = [a.format(family=family, result=result) for a in arguments]
    before = sorted(family.parent.iterdir())
    done = run(*filled, code=1)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("jaxtask: ")
    for word in words:
        assert word in last
    assert not done.stdout
    assert sorted(family.parent.iterdir()) == before


@pytest.mark.process
def test_wrong_usage_is_status_2(family):
    run("compare", code=2)
    run("compare", family, "--no-such-option", code=2)


@pytest.mark.process
@pytest.mark.slow
def test_damage_found_midway_leaves_nothing(family, tmp_path):
    write_family(tmp_path / "bank")
    weights = tmp_path / "bank/topic-a2/adapter_model.safetensors"
    tensors = load_file(weights)
    name = "base_model.model.model.layers.3.self_attn.v_proj.lora_B.weight"
    tensors[name][0, 0] = np.nan
    save_file(tensors, weights)
    done = run("compare", tmp_path / "bank", "--out", tmp_path / "r.zarr", code=1)
    assert name in done.stderr
    assert "topic-a2" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["bank"]


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_keeps_what_is_done(number, tmp_path):
    # Large enough to be still at work when the signal comes.
    bank, out = tmp_path / "bank", tmp_path / "r.zarr"
    rng = np.random.default_rng(0)
    for task in range(24):
        tensors = {}
        for layer in range(90):
            path = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
            tensors[f"{path}.lora_A.weight"] = rng.standard_normal((8, 64), dtype=np.float32)
            tensors[f"{path}.lora_B.weight"] = rng.standard_normal((64, 8), dtype=np.float32)
        (bank / f"t{task}").mkdir(parents=True)
        save_file(tensors, bank / f"t{task}/adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
        (bank / f"t{task}/adapter_config.json").write_text(json.dumps(config))
    arguments = ("compare", str(bank), "--out", str(out), "--metrics", "grassmann")
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            # Where the tests run in the background, a shell may have had SIGINT ignored.
            "import runpy, signal as s; s.signal(s.SIGINT, s.default_int_handler); "
            "runpy.run_module('jaxtask', run_name='__main__', alter_sys=True)",
            *arguments,
        ],
        env=ENV,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    marks = tmp_path / "r.zarr.partial" / "done"
    deadline = time.time() + 100
    while not (marks.exists() and list(marks.iterdir())) and time.time() < deadline:
        time.sleep(0.001)
    process.send_signal(number)
    _, told = process.communicate(timeout=100)
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert f"modules that are done stay in {tmp_path}/r.zarr.partial" in told
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bank", "r.zarr.partial"]
    if number == signal.SIGTERM:
        run(*arguments)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["bank", "r.zarr"]


def test_help_shows_the_defaults_of_a_recipe():
    """Written down in the help, so that no command has to import recipes to start."""
    recipe = Recipe("base")
    homes = {"prompt": recipe, "dtype": recipe}
    homes |= dict.fromkeys(("r", "alpha", "dropout", "targets"), recipe.lora)
    training = ("epochs", "batch", "accumulate", "lr", "schedule", "generate", "stack", "seed")
    homes |= dict.fromkeys(training, recipe.training)
    command = typer.main.get_command(app).commands["train"]
    shown = {option.name: getattr(option, "show_default", None) for option in command.params}
    for name, home in homes.items():
        value = getattr(home, name)
        if isinstance(value, tuple):
            assert tuple(shown[name].split(",")) == value
        else:
            assert type(value)(shown[name]) == value


def test_help_lists_commands_in_the_order_of_use():
    group = typer.main.get_command(app)
    assert group.list_commands(None)[:5] == ["tasks", "train", "extract", "inspect", "compare"]
