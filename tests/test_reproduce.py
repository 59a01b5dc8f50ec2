"""Experiments: the whole way in small, killed and gone on with, and what is refused."""

import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

import shell
from finetune.tiny import LLAMA, config
from jaxtask.corpora import read_documents
from jaxtask.corpora.length import WORDS
from jaxtask.demo.base import make_tokenizer, text_of
from jaxtask.demo.grammar import generate, write_corpus
from jaxtask.engine import open_result
from jaxtask.errors import ExperimentError
from jaxtask.finetune.models.load import random_model, save_model
from jaxtask.finetune.training.log import read_log
from jaxtask.folders import MARKED
from jaxtask.reproduce.across import kinds
from jaxtask.reproduce.data import build_corpus, find_folders, same_targets, spread
from jaxtask.reproduce.experiment import make_experiment, read_experiment, shipped_experiments
from jaxtask.reproduce.folder import holding
from jaxtask.reproduce.published import Published, Row, claims
from jaxtask.reproduce.run import Run, reproduce

pytestmark = pytest.mark.slow

EXPERIMENT = {
    "seeds": [0, 1],
    "corpora": {
        "one": {
            "folder": "one",
            "train": ["train.conll"],
            "dev": ["dev.conll"],
            "summaries": "summaries.jsonl",
            "documents": 3,
            "held_out": 2,
            "excerpt": {"sentences": 3, "tokens": 60},
            "tasks": ["syntax", "sum", "first10-sent"],
        },
        "two": {
            "folder": "two",
            "train": ["train.conll"],
            "dev": ["dev.conll"],
            "documents": 3,
            "held_out": 2,
            "prefix": "two-",
            "tasks": ["srl", "first10-sent"],
        },
    },
    "recipe": {
        "dtype": "float32",
        "lora": {"r": 2, "dropout": 0.0},
        "training": {"epochs": 2, "max_len": 128, "lr": 1e-2, "eval_every": 1000, "log_every": 1,
                     "remat": False,
                     "checkpoint_every": 1, "stack": 5},
    },
    "groups": {
        "linguistic": ["syntax", "sum", "two-srl"],
        "counting": ["first10-sent", "two-first10-sent"],
    },
    "table": ["sum", "syntax", "first10-sent"],
    "published": {
        "name": "a test",
        "cluster": ["counting"],
        "alike": ["cosine"],
        "table": [
            {"source": "sum", "target": "syntax", "rec": 0.6},
            {"source": "syntax", "target": "sum", "rec": 0.5},
        ],
    },
}  # fmt: skip
COMMAND = "import typer; from jaxtask.cli.reproduce import reproduce; typer.run(reproduce)"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with two corpora, a base model and an experiment, where commands run."""
    folder = tmp_path_factory.mktemp("reproduce")
    for seed, name in enumerate(("one", "two")):
        write_corpus(folder / name, seed, train=9, dev=3, test=1, sentences=(4, 5))
    tokenizer = make_tokenizer([text_of(d) for d in generate(40, seed=2)], size=600)
    tiny = config(
        LLAMA, vocab_size=len(tokenizer), num_hidden_layers=2, max_position_embeddings=128
    )
    save_model(random_model(tiny, 0), folder / "base")
    tokenizer.save_pretrained(folder / "base")
    (folder / "experiment.yaml").write_text(yaml.safe_dump(EXPERIMENT, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def go(out, **changes):
    experiment = replace(read_experiment("experiment.yaml"), **changes)
    said = []
    reproduce(Run(experiment, "base", find_folders(experiment, Path(), ()), out, say=said.append))
    return said


@pytest.fixture(scope="module")
def whole(home):
    """A run that nothing disturbs."""
    go(home / "whole")
    return home / "whole"


def files(folder):
    """What must not depend on interruptions."""
    kept = ("summary.json", "summary.md", "numbers.json", "adapter_model.safetensors")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.name in kept and "work" not in str(path.parent)
    }


def kill(out, ready):
    """Begin the run in a process of its own, and kill it once it is `ready`."""
    command = ["-c", COMMAND, "experiment.yaml", "--base", "base", "--out", out]
    with shell.start(*command) as child:
        shell.wait(child, ready)
        child.kill()


@pytest.mark.process
def test_kills_change_nothing(home, whole):
    """While adapters are trained, and while results are made and looked at."""
    out, chance = home / "killed", random.Random(os.getpid())
    # One training is enough to be killed in.
    shutil.copytree(whole / "seed1/adapters", out / "seed1/adapters")
    shutil.copy(whole / "experiment.json", out)
    log, step = out / "seed0/adapters.work/group-1/metrics.jsonl", chance.randrange(2, 5)

    def trains():
        return log.exists() and sum(e["event"] == "train" for e in read_log(log)) >= step

    kill("killed", trains)
    assert not (out / "seed0/adapters").exists()
    stage = chance.choice(["seed0/result.zarr", "seed1/result.zarr", "seed0/numbers.json"])
    kill("killed", (out / stage).exists)
    assert not (out / "summary.json").exists()
    go(out)
    assert files(out) == files(whole)
    assert not [path for path in out.rglob(".*") if "checkpoints" not in str(path)]


def test_everything_is_there_and_not_made_again(whole):
    def times():
        return {p: p.stat().st_mtime_ns for p in whole.rglob("*") if "summary" not in p.name}

    before = times()
    said = go(whole)
    kept = [path for path in before if path.is_file()]
    assert {path: before[path] for path in kept} == {p: t for p, t in times().items() if p in kept}
    assert sum("there already" in line for line in said) == 8
    for seed in (0, 1):
        assert (whole / f"seed{seed}/report.html").is_file()
        assert (whole / f"seed{seed}/findings/findings.json").is_file()


def test_the_numbers_are_those_of_the_result(whole):
    ds = open_result(whole / "seed1/result.zarr")
    found = json.loads((whole / "seed1/numbers.json").read_text())
    for row in found["table"]:
        one = ds.sel(source=row["source"], target=row["target"])
        for name in ("rec", "spectral_l1", "entropy_source", "entropy_projected"):
            np.testing.assert_allclose(row[name], one[name].mean().item(), rtol=1e-5)
    for way in found["directions"]:
        cells = ds[way["column"]].astype(float)
        told = [(cells, way)]
        if way["column"] != "entropy_source":
            told.append((cells - ds[f"{way['column']}_chance"], way["beyond_chance"]))
        else:
            assert way["beyond_chance"] is None
        for values, said in told:
            there = values.sel(source=way["source"], target=way["target"])
            back = values.sel(source=way["target"], target=way["source"])
            difference = (there - back).values.ravel()
            np.testing.assert_allclose(said["difference"], difference.mean(), rtol=1e-4, atol=1e-7)
            assert difference.min() - 1e-6 <= said["low"] <= said["difference"] + 1e-6
            assert said["difference"] - 1e-6 <= said["high"] <= difference.max() + 1e-6
    tasks = list(found["held_out_loss"])
    distance = ds["grassmann_out"].sel(source=tasks, target=tasks).mean(("layer", "module")).values
    homes = np.array(["one"] * 3 + ["two"] * 2)
    same, upper = homes[:, None] == homes, np.triu(np.ones((5, 5), bool), 1)
    group = np.array([0, 0, 1, 0, 1])
    own = group[:, None] == group
    means = found["corpora"]["mean_distance"]
    for kind, mask in (("same", own), ("other", ~own)):
        for home, where in (("same", same), ("other", ~same)):
            np.testing.assert_allclose(
                means[f"{kind} group, {home} corpus"],
                distance[mask & where & upper].mean(),
                rtol=1e-5,
            )
    for twin in found["twins"]:
        row = distance[tasks.index(twin["of"])]
        order = [tasks[n] for n in np.argsort(row) if tasks[n] != twin["of"]]
        assert order[twin["place"] - 1] == twin["twin"]


def test_another_question_needs_no_new_adapters(whole, home):
    shutil.copytree(whole, home / "asked")
    said = go(home / "asked", seeds=(0,), groups={}, table=("sum", "syntax"), published=None)
    assert sum("there already" in line for line in said) == 4
    summary = json.loads((home / "asked/summary.json").read_text())
    assert summary["seeds"]["0"]["separation"] is None
    assert len(summary["seeds"]["0"]["table"]) == 2
    assert summary["claims"] == []
    assert summary["across_seeds"] is None


def test_two_at_once_are_refused(whole):
    about = json.loads((whole / "experiment.json").read_text())
    with (
        holding(whole, about),
        pytest.raises(ExperimentError, match="another process is using it"),
    ):
        go(whole)


def half_made(draft):
    draft.mkdir()
    (draft / "draft").write_bytes(MARKED)
    (draft / "new").write_text("{")


def test_what_a_kill_left_half_made_goes(tmp_path):
    half_made(tmp_path / ".experiment.json.jaxtask-a1b2c3d4")
    for _ in range(2):
        with holding(tmp_path, {"base": "b"}):
            assert [path.name for path in tmp_path.iterdir()] == ["experiment.json"]
        half_made(tmp_path / ".findings.jaxtask-_1b2c3d4")
    (tmp_path / "experiment.json").write_text("[1]")
    with (
        pytest.raises(ExperimentError, match="is not what an experiment writes"),
        holding(tmp_path, {"base": "b"}),
    ):
        pass


def test_another_experiment_is_refused(whole):
    recipe = {**EXPERIMENT["recipe"], "dtype": "bfloat16"}
    with pytest.raises(ExperimentError, match="holds another experiment, whose recipe is"):
        go(whole, recipe=recipe)


def test_a_folder_of_something_else_is_left_alone(home, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ExperimentError, match=r"holds 'mine\.txt' and no experiment"):
        go(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def wrong(**changes):
    """The experiment with other values at dotted keys; None takes a key away."""
    values = json.loads(json.dumps(EXPERIMENT))
    for dotted, value in changes.items():
        *path, last = dotted.split("__")
        place = values
        for key in path:
            place = place[key]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return values


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sedes": [1]}, "x.yaml: sedes is no setting, expected one of corpora"),
        ({"corpora": {}}, "corpora is empty"),
        ({"corpora__one__tokens": 3}, "corpora.one.tokens is no setting"),
        ({"corpora__one__train": None}, "corpora.one.train is missing, expected a list of texts"),
        ({"corpora__one__tasks": ["nre"]}, "corpora.one.tasks: .*'nre'"),
        ({"corpora__one__tasks": ["genre"]}, "'genre', a classification, expected tasks whose"),
        ({"corpora__one__summaries": None}, "corpora.one.summaries is missing, but 'sum' needs it"),
        ({"corpora__one__excerpt": {"sentences": 0, "tokens": 9}}, "excerpt.sentences is 0, exp"),
        ({"corpora__two__prefix": None}, "two adapters are named 'first10-sent'"),
        ({"recipe__out": "there"}, "recipe.out is not a setting of an experiment"),
        ({"recipe__training__lr": -1}, "training.lr is -1, expected a number above 0"),
        ({"recipe__lora__rank": 2}, "lora.rank is not a setting"),
        ({"seeds": []}, r"seeds is \[\], expected a list of different whole numbers"),
        ({"seeds": [1, 1]}, "seeds is .* different"),
        ({"groups__counting": ["first10-sent", "sum"]}, "groups has 'sum' twice"),
        ({"groups__counting": ["first10-sent"]}, "groups has no 'two-first10-sent'"),
        ({"recipe": {"lora": "x"}}, "recipe.lora is 'x', expected names with values"),
        ({"table": ["ner"]}, "table has 'ner', expected one of the adapters syntax, sum"),
        (
            {"published__cluster": ["odd"]},
            "published.cluster has 'odd', expected one of ling",
        ),
        ({"published__table": [{"source": "sum"}]}, "published.table.0.target is missing"),
        ({"published__includes": [["sum"]]}, "published.includes is .* pairs of texts"),
    ],
)
def test_wrong_experiments_are_named(changes, says):
    with pytest.raises(ExperimentError, match=says):
        make_experiment(wrong(**changes), "x.yaml")


def test_what_is_not_there_is_named(home):
    experiment = make_experiment(EXPERIMENT, "x.yaml")
    with pytest.raises(ExperimentError, match=r"corpus one: none/one/train.conll is not there"):
        find_folders(experiment, Path("none"), ())
    assert find_folders(experiment, Path("none"), ["one=one", "two=two"])["two"] == Path("two")
    with pytest.raises(ExperimentError, match="--corpus 'three=two': expected NAME=FOLDER with"):
        find_folders(experiment, Path(), ["three=two"])
    with pytest.raises(ExperimentError, match="neither a file nor a shipped experiment: those are"):
        read_experiment("tolk")


def test_shipped_experiments_can_be_read():
    assert shipped_experiments() == ["demo", "talk"]
    talk, demo = read_experiment("talk"), read_experiment("demo")
    assert (len(talk.names), len(talk.groups["counting"])) == (15, 10)
    assert (len(demo.names), len(demo.groups["counting"])) == (12, 6)


def test_excerpts_are_dense_enough(home, tmp_path):
    """One in every three sentences is then never the first tenth of them."""
    corpus = make_experiment(EXPERIMENT, "x.yaml").corpora["one"]
    build_corpus("one", corpus, home / "one", tmp_path, max_len=200, length=WORDS)
    starts = json.loads((tmp_path / "corpora/one-train.json").read_text())["first_sentence"]
    originals = {d.id: d for d in read_documents(home / "one/train.conll")}
    excerpts = list(read_documents(tmp_path / "corpora/one-train.conll"))
    assert [d.id for d in excerpts] == list(starts)
    for excerpt in excerpts:
        whole = originals[excerpt.id].sentences
        start = starts[excerpt.id]
        assert excerpt.sentences == whole[start:]
        sizes = [len(sentence.text.split()) for sentence in whole]
        assert sum(sizes[start : start + 3]) <= 60
        assert all(sum(sizes[n : n + 3]) > 60 for n in range(start))


def test_no_excerpt_at_all_is_told(home, tmp_path):
    values = wrong(corpora__one__excerpt={"sentences": 3, "tokens": 2})
    corpus = make_experiment(values, "x.yaml").corpora["one"]
    with pytest.raises(ExperimentError, match="none of 9 documents has 3 sentences in a row"):
        build_corpus("one", corpus, home / "one", tmp_path, max_len=200, length=WORDS)


def test_spread():
    assert spread(range(10), 4) == [0, 2, 5, 7]
    assert spread(range(3), 9) == [0, 1, 2]


def test_tasks_that_are_one_are_found(tmp_path):
    def write(name, targets):
        (tmp_path / name).mkdir()
        lines = [
            json.dumps({"document_id": str(n), "part": 0, "target": t}) for n, t in targets.items()
        ]
        (tmp_path / name / "train.jsonl").write_text("\n".join(lines))

    write("a", {0: "x", 1: "y", 2: "z"})
    write("b", {1: "y", 2: "other", 3: "z"})
    write("c", {7: "x"})
    assert same_targets(tmp_path, ["a", "b", "c"]) == {("a", "b"): 0.5}


def test_kinds_of_pairs():
    """Two seeds, three tasks; block [a, i, b, j]."""
    values = np.empty((2, 3, 2, 3))
    values[0, :, 0], values[1, :, 1] = 4.0, 6.0
    values[0, :, 1] = [[1, 2, 2], [2, 3, 2], [2, 2, 1]]
    values[1, :, 0] = values[0, :, 1].T
    found = kinds(values, larger_is_nearer=False)
    assert found == {
        "same task, other seed": pytest.approx(5 / 3),
        "other task, other seed": 2.0,
        "other task, same seed": 5.0,
        "nearest is the same task": pytest.approx(2 / 3),
    }
    assert kinds(-values, larger_is_nearer=True)["nearest is the same task"] == pytest.approx(2 / 3)


THERE, BACK = ("sum", "ner"), ("ner", "sum")


def seed_numbers(silhouette=0.0, p=1.0, rho=0.0, low=0.0, high=0.0, chance=0.0, rec=()):
    """What the rules read; `low` and `high` bound how far rec of sum → ner is above ner → sum."""

    def lead(sign, low, high):
        low, high = sorted((sign * low, sign * high))
        return {"difference": (low + high) / 2, "low": low, "high": high}

    ways = [
        {"column": "rec", "source": i, "target": j, **lead(sign, low, high),
         "beyond_chance": lead(sign, low - chance, high - chance)}
        for (i, j), sign in ((THERE, 1), (BACK, -1))
    ]  # fmt: skip
    return {
        "separation": {"groups": {"counting": silhouette}, "p": p},
        "agreement": {"cosine": rho},
        "table": [{"source": i, "target": j, "rec": value} for (i, j), value in dict(rec).items()],
        "directions": ways,
        "inclusion": {"pairs": ways},
    }


def test_rules():
    """Each of them agrees, disagrees, says nothing, or differs from seed to seed."""
    published = Published(
        "a test",
        cluster=("counting",),
        alike=("cosine",),
        includes=(THERE,),
        table=(Row(*THERE, rec=0.6), Row(*BACK, rec=0.5)),
    )
    good = seed_numbers(0.2, 0.01, -0.9, 0.05, 0.15, 0.2)
    bad = seed_numbers(-0.1, 0.01, 0.7, -0.3, -0.1, -0.5)
    weak = seed_numbers(0.2, 0.2, 0.9, -0.1, 0.3, 0.1)
    yes, no, unknown = "agrees", "disagrees", "undecided"
    for seeds, expected in (
        ([good, good], [yes, yes, yes, yes, no]),
        ([bad, bad], [no, no, no, no, yes]),
        ([weak], [unknown, yes, unknown, unknown, unknown]),
        ([good, bad], ["mixed"] * 5),
        ([good, weak], ["mixed", yes, "mixed", "mixed", "mixed"]),
    ):
        stated = claims(published, seeds)
        assert [claim.verdict for claim in stated] == expected, stated
    assert stated[3].says == "rec: sum→ner above ner→sum"
    assert stated[3].found == ("0.100 [0.050, 0.150]", "0.100 [-0.100, 0.300]")
    assert stated[4].found[0] == "-0.100 [-0.150, -0.050]"
    turned = Published("a test", table=(Row(*THERE, rec=0.5), Row(*BACK, rec=0.6)))
    assert claims(turned, [good])[0].says == "rec: ner→sum above sum→ner"
    assert [claim.verdict for claim in claims(turned, [good])] == [no, yes]


def test_the_order_of_a_table():
    pairs = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e")]
    published = Published("a test", table=tuple(Row(*p, rec=n / 10) for n, p in enumerate(pairs)))
    same = {p: 0.5 + n for n, p in enumerate(pairs)}
    turned = {p: 0.5 - n for n, p in enumerate(pairs)}
    seeds = [seed_numbers(rec=rec) for rec in (same, turned)]
    (claim,) = claims(published, seeds)
    assert claim.found == ("1.000", "-1.000")
    assert claim.verdict == "mixed"
