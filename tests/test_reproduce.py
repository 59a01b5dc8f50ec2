"""Experiments: the whole way in small, killed and gone on with, and what is refused."""

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from finetune.tiny import LLAMA, config
from jaxtask.corpora import read_documents, tokens_of
from jaxtask.corpora.grammar import generate, write_corpus
from jaxtask.corpora.length import WORDS
from jaxtask.demo.base import make_tokenizer, text_of
from jaxtask.errors import ExperimentError
from jaxtask.finetune.log import read_log
from jaxtask.finetune.models.load import random_model, save_model
from jaxtask.reproduce.across import kinds
from jaxtask.reproduce.data import build_corpus, same_targets, spread
from jaxtask.reproduce.experiment import make_experiment, read_experiment, shipped_experiments
from jaxtask.reproduce.published import Published, Row, claims
from jaxtask.reproduce.run import Run, find_folders, reproduce

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
COMMAND = "import typer; from jaxtask.cli_reproduce import reproduce; typer.run(reproduce)"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with two corpora, a base model and an experiment, where commands run."""
    folder = tmp_path_factory.mktemp("reproduce")
    for seed, name in enumerate(("one", "two")):
        write_corpus(folder / name, seed, train=9, dev=3, test=1, sentences=(4, 5))
    tokenizer = make_tokenizer([text_of(d) for d in generate(40, seed=2)], size=600)
    tiny = config(LLAMA, vocab_size=len(tokenizer), num_hidden_layers=2)
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
    names = ["summary.json", "summary.md"]
    for seed in (0, 1):
        names += [f"seed{seed}/numbers.json"]
        names += [
            f"seed{seed}/adapters/{path.name}/adapter_model.safetensors"
            for path in (folder / f"seed{seed}/adapters").iterdir()
        ]
    return {name: (folder / name).read_bytes() for name in names}


def kill(out, ready):
    """Begin the run in a process of its own, and kill it once it is `ready`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", COMMAND, "experiment.yaml", "--base", "base", "--out", out]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as child:
        latest = time.monotonic() + 120
        while not ready():
            assert child.poll() is None, child.stderr.read().decode()
            assert time.monotonic() < latest
            time.sleep(0.005)
        child.kill()


def test_kills_change_nothing(home, whole):
    """While the first or the second seed trains, and while results are made and looked at."""
    out = home / "killed"
    chance = random.Random(os.getpid())
    seed, step = chance.randrange(2), chance.randrange(2, 6)

    def trains():
        log = out / f"seed{seed}/adapters.work/group-1/metrics.jsonl"
        return log.exists() and sum(e["event"] == "train" for e in read_log(log)) >= step

    kill("killed", trains)
    assert not (out / f"seed{seed}/adapters").exists()
    stage = chance.choice(["seed0/result.zarr", "seed1/result.zarr", "seed0/numbers.json"])
    kill("killed", (out / stage).exists)
    assert not (out / "summary.json").exists()
    go(out)
    assert files(out) == files(whole)


def test_again_does_nothing(home, whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*.safetensors")}
    said = go(whole)
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*.safetensors")} == before
    assert sum("there already" in line for line in said) == 8
