"""A whole run of the command that is killed and goes on, against one that nothing disturbs."""

import os
import random
import shlex

import pytest
from typer.testing import CliRunner

import shell
from engine.test_compilation import compilations
from finetune.data_files import asked, byte_tokenizer, write_task
from finetune.tiny import LLAMA, config
from jaxtask.cli.main import app
from jaxtask.finetune.models.load import random_model, save_model
from jaxtask.finetune.training.log import read_log

STEPS = 20
COMMAND = (
    "train data/* --base base --dtype float32 --r 2 --batch 2 --max-len 32 --lr 1e-2 "
    f"--steps {STEPS} --set training.checkpoint_every=5 --set training.log_every=1 --out"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a base model and two tasks, where commands run."""
    folder = tmp_path_factory.mktemp("killed")
    save_model(random_model(config(LLAMA, vocab_size=512, num_hidden_layers=2), 0), folder / "base")
    byte_tokenizer(pad_token="</s>").save_pretrained(folder / "base")
    lines = [asked(n, words=3) for n in range(11)]
    write_task(folder / "data" / "one", lines[:8], dev=lines[8:])
    write_task(folder / "data" / "two", lines[3:], dev=lines[:3])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def run(*arguments):
    done = CliRunner().invoke(app, [*shlex.split(COMMAND), *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr


@pytest.fixture(scope="module")
def whole(home):
    """What was compiled for the run that nothing disturbs, one task after the other."""
    with compilations() as counted:
        run("whole", "--stack", "1")
    return counted


def steps(home, out, group):
    file = home / f"{out}.work" / f"group-{group}" / "metrics.jsonl"
    events = read_log(file) if file.exists() else []
    return [{**e, "time": 0} for e in events if e["event"] == "train"]


@pytest.mark.slow
def test_one_compilation_for_all_tasks(whole):
    """Of a training step and of an evaluation."""
    assert sum(n for name, n in whole.items() if "step" in name) == 2, whole


@pytest.mark.process
@pytest.mark.slow
def test_a_kill_changes_no_bit(home, whole):
    """At a random step of the first or the second task, then again: the same batches and bits."""
    chance = random.Random(os.getpid())
    command = ["-m", "jaxtask", *shlex.split(COMMAND), "killed", "--stack", "1", "--resume"]
    until = chance.randrange(2, 2 * STEPS - 10)
    with shell.start(*command) as child:
        shell.wait(child, lambda: len(steps(home, "killed", 1) + steps(home, "killed", 2)) >= until)
        child.kill()
    assert not (home / "killed" / "two").exists()
    run("killed", "--stack", "1", "--resume")
    for n, task in enumerate(("one", "two"), 1):
        assert len(steps(home, "whole", n)) == STEPS
        assert steps(home, "killed", n) == steps(home, "whole", n)
        first, second = (
            (home / out / task / "adapter_model.safetensors").read_bytes()
            for out in ("killed", "whole")
        )
        assert first == second, task
