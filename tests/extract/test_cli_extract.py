"""`jaxtask extract`, run as a user runs it."""

import json

import numpy as np
import typer
from typer.testing import CliRunner

import jaxtask as jt
from extract.checkpoints import changed, save, weights
from jaxtask.cli.extract import extract
from jaxtask.cli.main import app as whole

app = typer.Typer()
app.command()(extract)


def run(*arguments, app=app):
    return CliRunner(env={"COLUMNS": "160"}).invoke(app, [str(a) for a in arguments])


def two(tmp_path):
    before = weights()
    after, _ = changed(before, 4, noise=0.05)
    return save(tmp_path / "base", before), save(tmp_path / "tuned", after, shards=2)


def test_extract_inspect_compare(tmp_path):
    base, tuned = two(tmp_path)
    out = tmp_path / "adapter"
    done = run(base, tuned, "--rank", 6, "--out", out)
    assert done.exit_code == 0, done.output
    assert "kept" in done.stdout
    assert "left out: lm_head.weight" in done.stdout
    assert f"Written: {out}" in done.stdout
    seen = run("inspect", out, app=whole)
    for told in ("left out: model.layers.0-1.input_layernorm.weight", "approximate: the factors"):
        assert told in seen.stdout
    described = json.loads(run("inspect", out, "--json", app=whole).stdout)["adapters"][0]
    least, largest = described["modules"]["mlp.up_proj"]["kept"]
    assert 0.5 < least <= largest < 1
    other = run(base, tuned, "--targets", "q_proj,v_proj", "--energy", 0.9, "--out", tmp_path / "b")
    assert other.exit_code == 0, other.output
    ds = jt.compare(jt.load_adapters([out, tmp_path / "b"]), metrics=["cosine"])
    cosine = ds["cosine"].sel(source="adapter", target="b")
    assert np.isnan(cosine.sel(module="mlp.up_proj")).all()
    assert (cosine.sel(module="self_attn.q_proj") > 0.9).all()


def test_json(tmp_path):
    base, tuned = two(tmp_path)
    done = run(base, tuned, "--rank", 3, "--name", "task", "--json", "--out", tmp_path / "a")
    told = json.loads(done.stdout)
    assert (told["name"], told["extracted"]["rank"]) == ("task", 3)
    assert len(told["extracted"]["modules"]) == 6


def test_a_folder_that_is_taken_is_refused_before_the_work(tmp_path):
    base, _ = two(tmp_path)
    done = run(base, tmp_path / "no-such-folder", "--out", base)
    assert isinstance(done.exception, jt.AdapterError)
    assert "exists" in str(done.exception)
