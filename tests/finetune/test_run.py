"""From task folders and a base model to adapters that compare, through the command line."""

import json

import numpy as np
import pytest
from rich.text import Text
from safetensors.numpy import load_file
from typer.testing import CliRunner

import jaxtask as jt
from finetune.data_files import asked, byte_tokenizer, write_task
from finetune.test_batches import encoded
from finetune.tiny import LLAMA, ROBERTA, config
from jaxtask.cli.main import app
from jaxtask.cli.tables import trained_tables
from jaxtask.errors import (
    AdapterError,
    CheckpointError,
    DataError,
    ModelError,
    RecipeError,
    TrainingError,
)
from jaxtask.finetune.data.lengths import longest_allowed, with_length
from jaxtask.finetune.models.load import random_model, save_model
from jaxtask.finetune.recipe.settings import change, make_recipe
from jaxtask.finetune.session import padding, step_options
from jaxtask.finetune.training.log import read_log
from jaxtask.finetune.training.start import seeded_lora

pytestmark = pytest.mark.slow

RECIPE = """
base: BASE
dtype: float32
data: ["data/*"]
lora: {r: 4, targets: [q_proj, v_proj], dropout: 0}
training: {batch: 4, max_len: 64, lr: 1.0e-2, packing: true, warmup: .25, log_every: 2}
tasks:
  two: {lora: {alpha: 32}, training: {steps: 3}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a base model of each kind, task folders, and a recipe."""
    folder = tmp_path_factory.mktemp("run")
    bases = {
        "base": config(LLAMA, vocab_size=512, num_hidden_layers=2),
        "encoder": config(
            ROBERTA,
            vocab_size=512,
            num_hidden_layers=1,
            pad_token_id=0,
            classifier_dropout=0.0,
            hidden_dropout_prob=0.0,
        ),
    }
    for name, shape in bases.items():
        save_model(random_model(shape, 0), folder / name)
        byte_tokenizer(pad_token="</s>").save_pretrained(folder / name)
    lines = [asked(n) for n in range(10)]
    write_task(folder / "data" / "one", lines[:8], dev=lines[8:])
    write_task(folder / "data" / "two", [{**x, "target": "w1"} for x in lines], dev=[{**lines[0]}])
    # Mostly one class: a random encoder tells texts apart too little to learn more in a few steps.
    rows = [{"text": f"w{n} w{n + 1}", "label": label} for n, label in enumerate("bbcb")]
    write_task(folder / "labels" / "class", rows, "classification", ["a", "b", "c"], dev=rows)
    rows = [{"text": x["text"], "label": n / 3} for n, x in enumerate(rows)]
    write_task(folder / "labels" / "value", rows, "regression", dev=rows)
    (folder / "recipe.yaml").write_text(RECIPE.replace("BASE", str(folder / "base")))
    return folder


@pytest.fixture
def here(home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "no-cache"))
    return home


@pytest.fixture(scope="module")
def trained(home):
    """Two tasks trained at once by the command; what it printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        given = ["--recipe", "recipe.yaml", "--steps", "5", "--out", "adapters", "--json"]
        more = ["--generate", "2", "--set", "training.generate_tokens=4"]
        done = CliRunner().invoke(app, ["train", *given, *more], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def tensors(folder):
    return load_file(folder / "adapter_model.safetensors")


def test_trains_and_compares(trained, here):
    assert [row["task"] for row in trained] == ["one", "two"]
    assert [row["steps"] for row in trained] == [5, 3]
    for row in trained:
        assert row["dev_loss"]["last"] < row["dev_loss"]["before"] - 0.01
    assert sorted(path.name for path in (here / "adapters").iterdir()) == ["one", "two"]
    bank = jt.load_adapters("adapters")
    assert list(bank.tasks) == ["one", "two"]
    assert {name: len(tensors(here / "adapters" / name)) for name in bank.tasks} == {
        "one": 8,
        "two": 8,
    }
    pooled = jt.pool(jt.compare(bank, metrics=["grassmann"], sides=["in"]), "grassmann_in")
    apart = pooled.sel(source="one", target="two").item()
    assert 0 < apart < 2 * np.pi
    for row, count in zip(trained, (2, 1), strict=True):
        assert row["scores"]["examples"] == count
        for side in ("before", "after"):
            assert set(row["scores"][side]) == {"exact", "rouge_l", "token_f1"}
    texts = (here / "adapters.work" / "group-1" / "generated.jsonl").read_text().splitlines()
    assert [json.loads(line)["task"] for line in texts] == ["one", "one", "two"]
    about = json.loads((here / "adapters" / "two" / "jaxtask.json").read_text())
    assert about["scores"] == trained[1]["scores"]
    assert (about["lora"]["alpha"], about["training"]["steps"], about["seed"]) == (32, 3, 0)
    rates = [
        event["rate"]["one"]
        for event in read_log(here / "adapters.work" / "group-1" / "metrics.jsonl")
        if event["event"] == "train"
    ]
    np.testing.assert_allclose(rates, [0, 1e-2, 1e-2, 1e-2, 1e-2], rtol=1e-6)


def test_one_after_another_is_all_at_once(trained, here, within):
    """Also over a mesh, of one device; and a run that has ended can be taken up again."""
    recipe = change(
        jt.read_recipe("recipe.yaml"),
        {"training.steps": 5, "training.stack": 1, "training.mesh": {"model": 1}, "out": "solo"},
        "test",
    )
    outcomes = jt.fine_tune(recipe)
    assert [outcome.name for outcome in outcomes] == ["one", "two"]
    alone = {name: tensors(here / "solo" / name) for name in ("one", "two")}
    for name, own in alone.items():
        together = tensors(here / "adapters" / name)
        assert own.keys() == together.keys()
        for key, tensor in own.items():
            within("stacked = solo, adapters", np.abs(tensor - together[key]).max(), 1e-5)
    with pytest.raises(CheckpointError, match=r"solo.work: holds checkpoints .*resume=True"):
        jt.fine_tune(recipe)
    (here / "solo" / "one" / "adapter_model.safetensors").write_bytes(b"")
    jt.fine_tune(recipe, resume=True)
    for name, own in alone.items():
        again = tensors(here / "solo" / name)
        assert all(np.array_equal(tensor, again[key]) for key, tensor in own.items())


def test_encoders_train_on_labels(here):
    recipe = make_recipe(
        {
            "base": "encoder",
            "dtype": "float32",
            "data": ["labels/*"],
            "out": "heads",
            "lora": {"r": 2, "targets": ["query"], "shared_init": False},
            "training": {"steps": 12, "batch": 4, "max_len": 32, "lr": 2e-2},
        },
        "test",
    )
    outcomes = jt.fine_tune(recipe)
    assert [outcome.name for outcome in outcomes] == ["class", "value"]
    for outcome, width in zip(outcomes, (3, 1), strict=True):
        assert outcome.record.dev_loss < outcome.loss_before
        assert outcome.scored.examples == 4
        head = tensors(here / "heads" / outcome.name)["base_model.model.classifier.out_proj.weight"]
        assert head.shape == (width, 24)
    assert outcomes[0].scored.after["accuracy"] >= 0.75
    assert outcomes[1].scored.after["mse"] == pytest.approx(outcomes[1].record.dev_loss, rel=1e-4)
    assert jt.load_adapters("heads").tasks
    with pytest.raises(RecipeError, match=r"max_len is 64, expected at most 41, the positions"):
        jt.fine_tune(change(recipe, {"training.max_len": 64, "out": "x"}, "test"))
    with pytest.raises(TrainingError, match="task one is text, but a roberta model"):
        jt.fine_tune(change(recipe, {"data": ["data/*"], "out": "x"}, "test"))


def test_training_goes_on_from_adapters(trained, here):
    """From one each, and from one for all; what is shown, and what a resumed run shows."""
    given = [
        "train",
        "--recipe",
        "recipe.yaml",
        "--steps",
        "2",
        "--work",
        "work",
        "--generate",
        "1",
    ]
    given += ["--set", "training.eval_examples=1", "--set", "tasks={}"]

    def shown(*more):
        done = CliRunner().invoke(app, [*given, *more], catch_exceptions=False)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    said = shown("--from", "adapters", "--out", "further")
    for word in ("ROUGE-L", " → ", "keep all.", "target", "generated.jsonl", "Written: further"):
        assert word in said
    about = json.loads((here / "further" / "two" / "jaxtask.json").read_text())
    assert about["start"]["path"] == "adapters/two"
    # Alpha 32 was task two's own in the run that made it, and is no setting of this one.
    assert (about["lora"]["alpha"], about["seed"], about["shared_init"]) == (32, None, None)
    assert about["dev_loss"]["before"] == pytest.approx(trained[1]["dev_loss"]["last"], abs=1e-5)
    first = tensors(here / "further" / "two")
    assert any(np.any(first[key] != old) for key, old in tensors(here / "adapters/two").items())
    (here / "work" / "group-1" / "generated.jsonl").unlink()
    assert shown("--from", "adapters", "--out", "further", "--resume") == said
    assert all(np.array_equal(first[k], new) for k, new in tensors(here / "further/two").items())
    other = ["--from", "adapters/one", "--out", "further", "--resume"]
    done = CliRunner().invoke(app, [*given, *other])
    assert "another run: start.two.sha256" in str(done.exception)
    other[-1] = "--overwrite"
    shown(*other, "--set", "training.mesh={model: 1}")
    about = json.loads((here / "further" / "two" / "jaxtask.json").read_text())
    assert (about["start"]["path"], about["shared_init"]) == ("adapters/one", True)


def run(*arguments):
    done = CliRunner().invoke(app, ["train", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done


def test_the_plan_is_told_and_what_is_too_long(here):
    """Before the first step, in the table and in JSON; an encoder needs no options for it."""
    rows = [{"text": f"w{n} " * (1 + 40 * (n % 2)), "label": "ab"[n % 2]} for n in range(8)]
    write_task(here / "long" / "mixed", rows, "classification", ["a", "b"], dev=rows[:3])
    given = ["long/mixed", "--base", "encoder", "--targets", "query", "--overwrite"]
    given += ["--dtype", "float32", "--steps", "1", "--out", "lengths"]
    done = run(*given, "--json")
    (row,) = json.loads(done.stdout)
    assert row["rows"] == {
        "train": {"used": 4, "truncated": 0, "dropped": 4},
        "dev": {"used": 2, "truncated": 0, "dropped": 1},
    }
    said = " ".join(done.stderr.split())
    plan = (
        "Task mixed: 4 of 8 train examples, 4 dropped; 2 of 3 dev examples, 1 dropped (longer "
        "than 41 tokens)."
    )
    warning = "Warning: task mixed: 50% of its train examples are dropped, being longer than"
    assert said.index(plan) < said.index(warning) < said.index("step 1 of 1")
    assert "--truncate (training.truncate) cuts their documents instead" in said
    assert "33%" in said
    about = json.loads((here / "lengths" / "mixed" / "jaxtask.json").read_text())
    assert about["data"]["dropped"] == {"train": 4, "dev": 1}
    assert about["training"]["max_len"] == 32  # what the examples that are left need


def test_what_is_cut_is_told(here, monkeypatch):
    """Before the base is read; and in the table."""

    def stop(*_):
        raise ModelError("not read here")

    monkeypatch.setattr("jaxtask.finetune.run.Session", stop)
    rows = [{"text": f"w{n} " * (1 + 40 * (n % 2)), "label": "ab"[n % 2]} for n in range(4)]
    write_task(here / "long" / "cut", rows, "classification", ["a", "b"])
    given = ["train", "long/cut", "--base", "encoder", "--targets", "query", "--out", "never"]
    done = CliRunner().invoke(app, [*given, "--truncate"])
    assert "not read here" in str(done.exception)
    said = " ".join(done.stderr.split())
    assert "Task cut: 4 train examples, 2 cut (longer than 41 tokens)." in said
    assert "Warning" not in said
    losses = {"before": None, "last": None, "best": None}
    row = {"task": "cut", "steps": 1, "ended": "finished", "dev_loss": losses}
    row |= {"scores": None, "example": None}
    counts = {"used": 4, "truncated": 2, "dropped": 0}
    (table,) = trained_tables([row | {"rows": {"train": counts, "dev": counts}}])
    cells = {column.header: list(column.cells) for column in table.columns}
    # As texts, of which the terminal shows the line breaks.
    assert cells["examples"] == [Text("4 train\n4 dev")]
    assert cells["truncated"] == [Text("2 train\n2 dev")]
    assert "dropped" not in cells


@pytest.mark.parametrize("asked", ["instruction", "text"])
def test_an_example_shows_what_is_asked(asked):
    losses = {"before": None, "last": None, "best": None}
    row = {"task": "t", "steps": 1, "ended": "finished", "dev_loss": losses, "scores": None}
    example = dict.fromkeys(("instruction", "text", "target", "before", "after"), "x")
    example |= {"instruction": ""} if asked == "text" else {}
    *_, table = trained_tables([row | {"example": example | {asked: "w " * 200}}])
    _, parts, texts = (list(column.cells) for column in table.columns)
    assert parts == [asked, "target", "before", "after"]
    assert texts[0] == "…" + ("w " * 200).strip()[-159:]


def test_rows_are_as_long_as_their_examples(here):
    tasks = [encoded("a", [70, 9], dev=[33]), encoded("b", [12])]
    recipe = make_recipe({"base": "b"}, "test")
    packed = change(recipe, {"training.packing": True}, "test")
    given = change(recipe, {"training.max_len": 50}, "test")

    def length(recipe, limit):
        return with_length(recipe, tasks, limit).training.max_len

    assert [length(recipe, limit) for limit in (80, 512, 131072)] == [80, 96, 96]
    assert [length(packed, limit) for limit in (80, 512, 131072)] == [80, 512, 2048]
    assert length(given, 512) == 50
    shape = config(LLAMA, max_position_embeddings=64)
    assert (longest_allowed(recipe, shape), longest_allowed(given, shape)) == (64, 50)
    with pytest.raises(RecipeError, match=r"max_len is 65, expected at most 64, the positions"):
        longest_allowed(change(recipe, {"training.max_len": 65}, "test"), shape)
    encoder = config(ROBERTA, max_position_embeddings=514)
    assert longest_allowed(recipe, encoder) == 512


def test_padding_that_the_base_has_not(here, tmp_path):
    """Added to a tokenizer, beyond the embedding: nothing sees it, and losses are numbers."""
    tokenizer = byte_tokenizer()
    while len(tokenizer) < 512:
        tokenizer.add_tokens([f"more{len(tokenizer)}"])
    tokenizer.add_special_tokens({"pad_token": "<new>"})
    assert tokenizer.pad_token_id == 512
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    changes = {
        "tokenizer": str(tmp_path / "tokenizer"),
        "out": str(tmp_path / "out"),
        "data": ["data/one"],
        "tasks": {},
        "training.steps": 1,
        "training.packing": False,
        "training.eval_every": 5,
    }
    (outcome,) = jt.fine_tune(change(jt.read_recipe("recipe.yaml"), changes, "test"))
    assert np.isfinite(outcome.record.dev_loss)


@pytest.mark.parametrize(("pad", "known"), [(None, 0), (-1, 0), (512, 0), (511, 511), (2, 2)])
def test_padding_is_a_token_of_the_base(pad, known):
    assert padding(pad, 512) == known


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"base": "org/none"}, ModelError, r"'org/none' is neither .* cache; .*base=PATH"),
        ({"base": "recipe.yaml"}, ModelError, "recipe.yaml: is neither a folder with a model"),
        ({"base": "a b"}, ModelError, "'a b' is neither a path nor a valid id"),
        ({"data": []}, RecipeError, "data is empty"),
        ({"out": None}, RecipeError, "out is missing"),
        ({"out": "adapters"}, CheckpointError, "adapters.work: holds checkpoints"),
        ({"out": "adapters", "work": "w"}, AdapterError, r"adapters.one exists; .*overwrite=True"),
        ({"data": ["labels/*"]}, TrainingError, "class is classification, but a llama model"),
        ({"data": ["data/one"]}, RecipeError, "tasks.two is not a task of this run"),
        ({"start": "data"}, AdapterError, "data: holds neither adapter_config.json"),
        ({"lora.targets": ["query"]}, TrainingError, "'query' matches no module"),
        ({"training.max_len": 8}, DataError, "task one: nothing is left to train on"),
    ],
)
def test_refusals_come_before_anything_is_written(trained, here, changes, error, message):
    recipe = change(jt.read_recipe("recipe.yaml"), {"out": "nowhere", **changes}, "test")
    with pytest.raises(error, match=message):
        jt.fine_tune(recipe)
    assert not (here / "nowhere").exists()
    assert not (here / "nowhere.work").exists()


def test_command_line_names_what_is_wrong(here):
    def refused(*arguments):
        done = CliRunner().invoke(app, ["train", *arguments])
        return str(done.exception)

    assert "base is missing" in refused("data/one")
    assert "lora.r is 0" in refused("--recipe", "recipe.yaml", "--r", "0")
    assert "did you mean training.warmup?" in refused("--base", "b", "--set", "training.warmupp=1")
    assert "expected KEY=VALUE" in refused("--base", "b", "--set", "lora.r")
    assert "with --from adapters keep their rank" in refused(
        "--base", "b", "--from", "a", "--r", "4"
    )
    assert "expected AXIS=N" in refused("--base", "b", "--mesh", "2x2")
    assert "stack is 'all'" in refused("--base", "b", "--stack", "all")


def test_seeds_of_tasks():
    """One A for all, or one each."""
    values = {"base": "b", "lora": {"seed": 3}}
    shared = make_recipe(values, "test")
    own = change(shared, {"lora.shared_init": False}, "test")
    assert [seeded_lora(shared, name).seed for name in "ab"] == [3, 3]
    assert len({seeded_lora(own, name).seed for name in "ab"} | {3}) == 3


def test_dropout_is_compiled_only_where_there_is_any():
    silent = config(
        ROBERTA,
        classifier_dropout=0.0,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.1,
    )

    def options(**training):
        values = {"base": "b", "lora": {"dropout": 0}, "training": training}
        return step_options(make_recipe(values, "test"), silent, "classification")

    assert (options().dropout, options().base_dropout) == (True, True)
    off = options(base_dropout=False)
    assert (off.dropout, off.base_dropout) == (False, False)
    recipe = make_recipe({"base": "b", "lora": {"dropout": 0}}, "test")
    assert not step_options(recipe, config(LLAMA), "text").dropout
