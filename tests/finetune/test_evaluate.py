"""What tasks say on dev examples, all at once, against one example at a time."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from finetune.data_files import asked, byte_tokenizer, write_task
from finetune.tiny import BERT, LLAMA, lora, model, numbers, only_task, rows
from jaxtask.errors import TrainingError
from jaxtask.finetune.data.batches import BatchShape, TaskBatches, sample
from jaxtask.finetune.data.examples import EncodedTask, Example, encode_task
from jaxtask.finetune.data.task_data import Line, read_task
from jaxtask.finetune.evaluation.evaluate import evaluate_labels, evaluate_texts, write_texts
from jaxtask.finetune.evaluation.scores import Scored, Text, score, score_classes, score_values
from jaxtask.finetune.recipe.settings import Lora
from jaxtask.finetune.training.bookkeeping import TaskRun
from jaxtask.finetune.training.lora import init_head, init_lora
from jaxtask.finetune.training.step import adapters_of, make_predict

pytestmark = pytest.mark.slow

SPECS = [Lora(r=3, targets="all-linear"), Lora(r=2, seed=1)]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """(base, tokenizer, two tasks with 5 and 2 dev examples)."""
    folder, tokenizer = tmp_path_factory.mktemp("tasks"), byte_tokenizer()
    tasks = []
    for name, count in (("one", 5), ("two", 2)):
        lines = [asked(n + count) for n in range(count)]
        task = read_task(write_task(folder / name, lines[:1], dev=lines))
        tasks.append(encode_task(task, tokenizer, max_len=128, vocabulary=512))
    return model(LLAMA, vocab_size=512, num_hidden_layers=1), tokenizer, tasks


def row(ids):
    """One task's one row, always of the same width: one program runs all of them."""
    return [jnp.asarray(array)[None] for array in rows([list(ids)], 128)]


def greedy(base, tokenizer, example, adapters, new):
    """The definition: the whole text again for every token, until one that ends it."""
    scores = jax.jit(lambda *arrays: base.logits(base(*arrays)))
    ids = example.tokens[: example.prompt].tolist()
    for _ in range(new):
        ids.append(int(np.argmax(scores(*row(ids), adapters)[0, 0, len(ids) - 1])))
        if ids[-1] in (*base.config.ends, tokenizer.eos_token_id):
            break
    return tokenizer.decode(ids[example.prompt :], skip_special_tokens=True).strip()


def test_texts_of_all_tasks_are_those_of_each(texts):
    """And a task without dev examples beside them."""
    base, tokenizer, tasks = texts
    specs = [*SPECS, Lora(r=2)]
    settings = numbers(specs, base.config)
    sides = init_lora(specs, base.config), lora(specs, base.config)
    none = EncodedTask("none", "text", (), {"train": tasks[0].splits["train"]}, {}, {})
    shape = BatchShape(2, 128)
    *found, nothing = evaluate_texts(base, tokenizer, [*tasks, none], sides, settings, shape, 4, 3)
    assert nothing is None
    assert [scored.examples for scored in found] == [4, 2]
    for t, (task, scored) in enumerate(zip(tasks, found, strict=True)):
        dev = task.splits["dev"]
        chosen = [dev[n] for n in sample(len(dev), 4, task.name)]
        assert [text.source for text in scored.texts] == [e.line.source for e in chosen]
        example, text = chosen[-1], scored.texts[-1]
        own = settings._replace(scale={m: s[:, t : t + 1] for m, s in settings.scale.items()})
        for side, said in zip(sides, (text.before, text.after), strict=True):
            adapters = adapters_of(only_task(side, t), own)
            assert said == greedy(base, tokenizer, example, adapters, 3)
        for name in ("before", "after"):
            said = [getattr(text, name) for text in scored.texts]
            assert getattr(scored, name) == score(said, [e.line.target for e in chosen])._asdict()
    assert any(text.before != text.after for scored in found for text in scored.texts)
    assert evaluate_texts(base, tokenizer, [none], sides, settings, shape, 4, 3) == [None]


def labelled(name, count, kind, classes):
    rng = np.random.default_rng(count)
    examples = tuple(
        Example(
            rng.integers(3, 61, rng.integers(2, 9)).astype(np.int32),
            0,
            Line(f"line {n}", "x", label=n % classes if kind == "classification" else n / 3),
        )
        for n in range(count)
    )
    labels = tuple("abc"[:classes]) if kind == "classification" else ()
    return EncodedTask(name, kind, labels, {"train": examples, "dev": examples}, {}, {})


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_labels_of_all_tasks_are_those_of_each(kind):
    base = model(BERT, num_hidden_layers=1)
    specs = [Lora(r=2, seed=n, targets=("query",)) for n in range(2)]
    classes = [2, 3] if kind == "classification" else [1, 1]
    tasks = [labelled("one", 7, kind, 2), labelled("two", 3, kind, 3)]
    runs = [TaskRun(TaskBatches(task, BatchShape(4, 32, parts=2)), 1) for task in tasks]
    settings = numbers(specs, base.config, classes=classes)
    start = init_lora(specs, base.config) | init_head(specs, base.config, classes)
    sides = start, lora(specs, base.config, classes)
    found = evaluate_labels(make_predict(base), runs, sides, settings)
    for t, (task, scored) in enumerate(zip(tasks, found, strict=True)):
        truth = [example.line.label for example in task.splits["dev"]]
        own = settings._replace(scale={m: s[:, t : t + 1] for m, s in settings.scale.items()})
        for side, measured in zip(sides, (scored.before, scored.after), strict=True):
            alone, said = only_task(side, t), []
            adapters = adapters_of(alone, own)
            run = jax.jit(lambda *arrays, alone=alone: base.scores(base(*arrays), alone))
            for example in task.splits["dev"]:
                arrays = [array[:, :, :32] for array in row(example.tokens)]
                scores = np.asarray(run(*arrays, adapters))[0, 0, : classes[t]]
                said.append(scores.argmax() if kind == "classification" else float(scores[0]))
            measure = score_classes if kind == "classification" else score_values
            expected = measure(said, truth)._asdict()
            assert measured == pytest.approx(expected, abs=1e-4)
        assert scored.examples == len(truth)
    empty = [TaskRun(TaskBatches(labelled("no", 0, kind, 2), BatchShape(4, 32)), 1)]
    assert evaluate_labels(make_predict(base), empty, sides, settings) == [None]


def test_texts_are_written_whole_or_not(tmp_path):
    text = Text("f, line 1", "do.", "x", "y", "b", "ä")
    scored = Scored(1, {"exact": 0.0}, {"exact": math.nan}, (text,))
    file = tmp_path / "generated.jsonl"
    write_texts(file, {"one": scored, "two": scored})
    first, second = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    assert (first["task"], second["task"], first["after"], first["source"]) == (
        "one",
        "two",
        "ä",
        "f, line 1",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["generated.jsonl"]
    assert scored.json() == {"examples": 1, "before": {"exact": 0.0}, "after": {"exact": None}}
    with pytest.raises(TrainingError, match=r"none/g: cannot be written: .*No such file"):
        write_texts(tmp_path / "none" / "g", {"one": scored})
