"""The loop: what it trains, when tasks end, and that a kill changes nothing."""

import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import shell
from finetune.test_batches import encoded
from finetune.toy import RATE, TASKS, functions, run_of, train_toys
from jaxtask.errors import CheckpointError, RecipeError, TrainingError
from jaxtask.finetune.data.batches import BatchShape, Position, TaskBatches
from jaxtask.finetune.recipe.settings import make_recipe
from jaxtask.finetune.training.bookkeeping import (
    EARLY,
    FINISHED,
    TaskRun,
    by_kind,
    groups,
    make_runs,
)
from jaxtask.finetune.training.log import read_log
from jaxtask.finetune.training.loop import Functions, LoopOptions, train

NAMES = list(TASKS)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """(outcomes by name, log, batches) of a run that nothing disturbs."""
    work = tmp_path_factory.mktemp("together")
    batches = {}
    found = train_toys(NAMES, work, batches.__setitem__)
    return {o.name: o for o in found}, read_log(work / "metrics.jsonl"), batches


def same(left, right):
    return all(
        np.array_equal(left["q"][n], right["q"][n]) and left["q"][n].dtype == np.float32
        for n in "AB"
    )


def losses(log, event, task):
    return {e["step"]: e["loss"][task] for e in log if e["event"] == event and task in e["loss"]}


def test_tasks_end_when_they_should(together):
    outcomes, log, _ = together
    assert {n: (o.record.ended, o.record.steps) for n, o in outcomes.items()} == {
        "ner": (EARLY, 30),
        "sum": (FINISHED, 25),
        "coref": (FINISHED, 60),
    }
    ends = {e["task"]: (e["step"], e["why"]) for e in log if e["event"] == "end"}
    assert ends == {n: (o.record.steps, o.record.ended) for n, o in outcomes.items()}
    for name, outcome in outcomes.items():
        steps = outcome.record.steps
        assert list(losses(log, "train", name)) == list(range(1, steps + 1))
        evaluations = losses(log, "eval", name)
        assert set(evaluations) == {*range(0, steps + 1, 10), steps}
        assert outcome.loss_before == evaluations[0]
        assert outcome.record.best == min(v for s, v in evaluations.items() if s)
        assert outcome.record.best < outcome.loss_before
    assert [e["step"] for e in log] == sorted(e["step"] for e in log)


def test_a_task_without_progress_stops_and_keeps_its_best(tmp_path):
    """Evaluation losses are given: 5 before training, then the least at the third time."""
    given = iter([5.0, 4.0, 3.0, 2.0, 2.5, 2.1, 1.0])
    toy = functions([1])
    kept = {}

    def eval_step(state, batch):
        loss = next(given)
        kept[loss] = toy.adapter(state, 0)
        return np.array([2 * loss]), np.array([2.0])

    run = TaskRun(run_of("sum", BatchShape(9, 64, False)).batches, 100, patience=2)
    faked = Functions(toy.init, toy.train_step, eval_step, toy.adapter)
    (outcome,) = train(faked, [run], LoopOptions(eval_every=4), tmp_path, {})
    assert (outcome.record.ended, outcome.record.steps) == (EARLY, 20)
    assert (outcome.record.best, outcome.record.best_step) == (2.0, 12)
    assert outcome.loss_before == 5.0
    assert same(outcome.parameters, kept[2.0])
    assert not same(outcome.parameters, kept[2.1])
    assert next(given) == 1.0


def test_without_a_number_evaluations_come_at_the_end_of_epochs(tmp_path):
    train_toys(["sum"], tmp_path, eval_every=None)
    log = read_log(tmp_path / "metrics.jsonl")
    batches, position, ends = run_of("sum").batches, Position(), {0, 25}
    for step in range(1, 26):
        position = batches.after(position)
        if position.step == 0:
            ends.add(step)
    assert set(losses(log, "eval", "sum")) == ends
    assert len(ends) > 4


@pytest.mark.parametrize("name", NAMES)
def test_a_stacked_run_is_what_solo_runs_are(together, tmp_path, name):
    (alone,) = train_toys([name], tmp_path)
    stacked = together[0][name]
    for leaf in "AB":
        np.testing.assert_allclose(
            stacked.parameters["q"][leaf], alone.parameters["q"][leaf], rtol=0, atol=1e-5
        )
    assert (alone.record.steps, alone.record.ended, alone.record.best_step) == (
        stacked.record.steps,
        stacked.record.ended,
        stacked.record.best_step,
    )


def start(work, out, pause):
    return shell.start("-m", "finetune.toy", work, out, pause)


def written(out):
    """(step, digest) of every batch that a program saw, in order."""
    file = out / "batches"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(step), digest) for step, digest in map(str.split, lines)]


def wait_for(process, out, steps):
    """Until the program has seen so many batches."""
    shell.wait(process, lambda: len(written(out)) >= steps)


@pytest.mark.process
@pytest.mark.slow
def test_kills_change_nothing(together, tmp_path):
    """Killed at a random step, then asked to end, then left alone: the same batches and bits."""
    chance = random.Random(os.getpid())
    work, out = tmp_path / "work", tmp_path / "out"
    out.mkdir()
    with start(work, out, 0.03) as process:
        wait_for(process, out, chance.randrange(8, 22))
        time.sleep(0.03 * chance.random())
        process.kill()
    killed = [step for step, _ in written(out)]
    with start(work, out, 0.03) as process:
        wait_for(process, out, len(killed) + chance.randrange(8, 22))
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
    asked = [step for step, _ in written(out)][len(killed) :]
    # It went on from the newest checkpoint. They are made after every 7 steps, so one may have been
    # cut off when the last step was such a one.
    assert asked[0] in {n // 7 * 7 + 1 for n in (killed[-1] - 1, killed[-1])}
    # It ended after a checkpoint of that very step.
    assert (work / "checkpoints" / str(asked[-1])).is_dir()
    with start(work, out, 0) as process:
        assert process.wait() == 0, process.stderr.read().decode()
    last = [step for step, _ in written(out)][len(killed) + len(asked) :]
    assert last == list(range(asked[-1] + 1, 61))
    outcomes, log, batches = together
    assert dict(written(out)) == batches
    for name, outcome in outcomes.items():
        with np.load(out / f"{name}.npz") as found:
            assert same({"q": found}, outcome.parameters), name
    again = read_log(work / "metrics.jsonl")
    assert sum(event["event"] == "resume" for event in again) == 2
    again, log = ([{**e, "time": 0} for e in x if e["event"] != "resume"] for x in (again, log))
    assert again == log


@pytest.mark.parametrize("late", [0, 10, 25])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_an_evaluation_leaves_it_for_later(number, late, tmp_path):
    """Before training, in between and at the end; what comes out is what it would have been."""
    (whole,) = train_toys(["sum"], tmp_path / "whole", checkpoint_every=50)
    toy, evaluated = functions([TASKS["sum"][0]]), []

    def eval_step(state, batch):
        evaluated.append(int(state.count.max()))
        if evaluated[-1] == late:
            os.kill(os.getpid(), number)
        return toy.eval_step(state, batch)

    options = LoopOptions(checkpoint_every=50, log_every=5, eval_every=10)
    asked = Functions(toy.init, toy.train_step, eval_step, toy.adapter)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises((SystemExit, KeyboardInterrupt)) as end:
            train(asked, [run_of("sum")], options, tmp_path / "cut", {"rate": RATE})
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(run_of("sum").batches.evaluation()) > 1
    assert evaluated.count(late) == 1
    (told,) = end.value.__notes__
    assert told.startswith(f"after step {late} of 25, which is saved in" if late else "before the")
    (again,) = train_toys(["sum"], tmp_path / "cut", checkpoint_every=50)
    assert same(again.parameters, whole.parameters)
    assert again.record == whole.record
    logs = [read_log(tmp_path / n / "metrics.jsonl") for n in ("whole", "cut")]
    whole_log, log = ([{**e, "time": 0} for e in x if e["event"] != "resume"] for x in logs)
    assert log == whole_log
    # Once more: nothing is left to do, and nothing is there twice.
    train_toys(["sum"], tmp_path / "cut", checkpoint_every=50)
    log = read_log(tmp_path / "cut" / "metrics.jsonl")
    assert [{**e, "time": 0} for e in log if e["event"] != "resume"] == whole_log


def test_a_run_that_is_complete_trains_no_more(together, tmp_path):
    seen = []
    first = train_toys(["sum"], tmp_path)
    again = train_toys(["sum"], tmp_path, lambda *step: seen.append(step))
    assert not seen
    assert same(first[0].parameters, again[0].parameters)
    assert again[0].loss_before == first[0].loss_before
    assert again[0].record == first[0].record


def test_checkpoints_of_another_run_are_refused(tmp_path):
    toy, runs = functions([1]), [run_of("sum")]
    options = LoopOptions()
    identity = {"recipe": {"lora": {"r": 8}, "targets": ("a",)}}
    train(toy, runs, options, tmp_path, identity)
    train(toy, runs, options, tmp_path, identity)
    said = r"another run: recipe\.lora\.r was 8 and is 4\. Give another work folder"
    with pytest.raises(CheckpointError, match=said):
        train(toy, runs, options, tmp_path, {"recipe": {"lora": {"r": 4}, "targets": ["a"]}})
    with pytest.raises(CheckpointError, match=r"tasks was \['sum'\] and is \['ner'\]"):
        train(toy, [run_of("ner")], options, tmp_path, identity)


def test_what_differs_is_told_in_short(tmp_path):
    toy, runs, options = functions([1]), [run_of("sum")], LoopOptions()
    many = {"encoded examples": {f"t{n}": n for n in range(9)}, "base model": {"f": "1"}}
    train(toy, runs, options, tmp_path, many)
    other = {**many, "encoded examples": {f"t{n}": -n for n in range(9)}}
    said = r"examples\.t1 was 1 and is -1; .*t5 was .* and 3 more\. Examples are other tokens if"
    with pytest.raises(CheckpointError, match=said) as told:
        train(toy, runs, options, tmp_path, other)
    assert "base model" not in str(told.value)
    with pytest.raises(CheckpointError, match=r"base model\.f was '1' and is '2'\. The base model"):
        train(toy, runs, options, tmp_path, {**many, "base model": {"f": "2"}})
    said = "does not record its run's newer things and more, so an older jaxtask made it.*overwrite"
    with pytest.raises(CheckpointError, match=said):
        train(toy, runs, options, tmp_path, {**many, "newer things": 1, "more": 2})


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    toy = functions([1, 2])

    def step(state, batch, active):
        late = int(state.count.max()) >= 12
        state, report = toy.train_step(state, batch, active)
        return state, report._replace(loss=report.loss * np.array([1, np.nan if late else 1]))

    broken = Functions(toy.init, step, toy.eval_step, toy.adapter)
    runs = [run_of("ner"), run_of("sum")]
    options = LoopOptions(checkpoint_every=5, log_every=4, eval_every=50)
    said = r"task sum: loss of step 13 is nan .* \(the last checkpoint is 10\)"
    with pytest.raises(TrainingError, match=said):
        train(broken, runs, options, tmp_path, {})
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["10", "5"]


def test_a_loss_that_never_was_finite_is_not_blamed_on_the_rate(tmp_path):
    toy = functions([1])

    def evaluate(state, batch):
        return tuple(x * np.nan for x in toy.eval_step(state, batch))

    def step(state, batch, active):
        state, report = toy.train_step(state, batch, active)
        return state, report._replace(loss=report.loss * np.nan)

    for n, broken in enumerate(
        (
            Functions(toy.init, toy.train_step, evaluate, toy.adapter),
            Functions(toy.init, step, toy.eval_step, toy.adapter),
        )
    ):
        with pytest.raises(TrainingError, match=r"is nan before the first update, .* base model"):
            train(broken, [run_of("ner")], LoopOptions(), tmp_path / str(n), {})


def test_views_and_shapes(tmp_path):
    views, shapes = [], set()
    toy = functions([1, 2])

    def step(state, batch, active):
        shapes.add(batch.tokens.shape)
        return toy.train_step(state, batch, active)

    watched = Functions(toy.init, step, toy.eval_step, toy.adapter)
    train(watched, [run_of("coref"), run_of("sum")], LoopOptions(), tmp_path, {}, views.append)
    # One shape, also after a task has ended: one compiled program.
    assert shapes == {(2, 2, 32)}
    assert (views[0].step, views[0].total, views[0].tokens_per_second) == (0, 60, None)
    last = views[-1]
    assert (last.step, last.total, last.seconds_left) == (60, 60, 0)
    assert last.tokens_per_second > 0
    assert [(t.name, t.step, t.total, t.ended) for t in last.tasks] == [
        ("coref", 60, 60, FINISHED),
        ("sum", 25, 25, FINISHED),
    ]
    assert all(0 < t.loss < 10 for t in last.tasks)
    # The last evaluation is in the last view.
    log = read_log(tmp_path / "metrics.jsonl")
    for task in last.tasks:
        *_, dev_loss = losses(log, "eval", task.name).values()
        assert task.dev_loss == dev_loss


def test_runs_of_a_recipe():
    recipe = make_recipe(
        {
            "base": "b",
            "training": {"epochs": 2, "batch": 2, "accumulate": 2, "max_len": 64, "patience": 3},
            "tasks": {"short": {"training": {"steps": 5, "patience": None}}},
        },
        "x",
    )
    tasks = [encoded("long", [9] * 10), encoded("short")]
    long, short = make_runs(recipe, tasks, pad=1)
    assert long.batches.shape == BatchShape(4, 64, False, 1, parts=2)
    assert (long.total, long.patience) == (2 * 3, 3)
    assert (short.total, short.patience) == (5, None)
    with pytest.raises(RecipeError, match="patience is 3, but task long has no dev"):
        make_runs(recipe, [encoded("long", dev=())], pad=0)


def test_tasks_of_one_kind_train_at_once():
    tasks = [
        encoded(n, kind=k) for n, k in zip("abcde", ["text"] * 4 + ["regression"], strict=True)
    ]

    def names(size, **fields):
        kinds = by_kind(make_recipe({"base": "b", **fields}, "x"), tasks)
        every = [group for same in kinds.values() for group in groups(same, size)]
        return ["".join(task.name for task in group) for group in every]

    assert names(9) == ["abcd", "e"]
    assert names(3) == ["abc", "d", "e"]
    assert names(1) == list("abcde")
    with pytest.raises(
        RecipeError, match=r"tasks\.aa is not a task of this run: did you mean tasks\.a"
    ):
        names(1, tasks={"aa": {"lora": {"r": 2}}})
    shape = BatchShape(1, 64)
    mixed = [TaskRun(TaskBatches(t, shape), 3) for t in tasks[3:]]
    with pytest.raises(TrainingError, match=r"several kinds or shapes .*: d, e"):
        train(functions([1, 2]), mixed, LoopOptions(), Path("nowhere"), {})
