"""Rows and batches: what is in them, that nothing is lost, and that they depend on nothing else."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxtask.errors import RecipeError
from jaxtask.finetune.data.batches import (
    BatchShape,
    Position,
    TaskBatches,
    padded_length,
    stack,
    stack_prompts,
)
from jaxtask.finetune.data.examples import EncodedTask, Example
from jaxtask.finetune.data.packing import WINDOW, first_fit_decreasing, rows_of, shuffled
from jaxtask.finetune.data.task_data import Line
from shell import python

ROOT = Path(__file__).parents[2]


def encoded(name="t", lengths=(5, 9, 3, 12, 7), kind="text", dev=(4, 6)):
    """Tokens say where they come from: 100 · example + place."""
    splits = {}
    for split, sizes in (("train", lengths), ("dev", dev)):
        splits[split] = tuple(
            Example(
                np.arange(size, dtype=np.int32) + 100 * (n + 1),
                0 if kind != "text" else size // 2,
                Line(f"line {n}", "x", label=n % 2 if kind != "text" else None),
            )
            for n, size in enumerate(sizes)
        )
    labels = ("a", "b") if kind == "classification" else ()
    return EncodedTask(name, kind, labels, splits, {}, {})


def walk(batches, epochs=2):
    """(position, first tokens of the examples of each row) of every step."""
    position = Position()
    while position.epoch < epochs:
        yield position, [[int(e.tokens[0]) for e in row] for row in batches.step(position)]
        position = batches.after(position)


def random_lengths(n, high, seed=0):
    return np.random.default_rng(seed).integers(2, high, n).tolist()


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
def test_an_epoch_holds_every_example_once(packing, rows):
    lengths = random_lengths(50, 40)
    batches = TaskBatches(encoded(lengths=lengths), BatchShape(rows, 64, packing))
    seen = {0: [], 1: []}
    steps = {0: 0, 1: 0}
    for position, step in walk(batches):
        assert 1 <= len(step) <= rows
        assert position.step == steps[position.epoch]
        steps[position.epoch] += 1
        seen[position.epoch] += list(itertools.chain(*step))
    for epoch in (0, 1):
        assert sorted(seen[epoch]) == [100 * (n + 1) for n in range(50)]
        assert steps[epoch] == batches.steps(epoch)
    assert seen[0] != seen[1]
    assert batches.total_steps(2, None) == sum(steps.values())
    assert batches.total_steps(None, 7) == 7


def test_a_task_sees_the_same_whatever_else_there_is():
    shape = BatchShape(2, 64, True)
    lengths = random_lengths(40, 30)
    alone = list(walk(TaskBatches(encoded("a", lengths), shape, seed=3)))
    assert alone == list(walk(TaskBatches(encoded("a", lengths), shape, seed=3)))
    assert alone != list(walk(TaskBatches(encoded("b", lengths), shape, seed=3)))
    assert alone != list(walk(TaskBatches(encoded("a", lengths), shape, seed=4)))
    # Any step can be had without those before it.
    fresh = TaskBatches(encoded("a", lengths), shape, seed=3)
    for position, step in reversed(alone):
        assert [[int(e.tokens[0]) for e in row] for row in fresh.step(position)] == step


@pytest.mark.process
def test_the_order_is_the_same_in_another_process():
    code = "from jaxtask.finetune.data.packing import shuffled; print(*shuffled(20, 1, 'ner', 2))"
    there = python(code)
    here = shuffled(20, 1, "ner", 2)
    assert [int(n) for n in there.split()] == here.tolist()
    assert sorted(here) == list(range(20))
    # Bits of a counter-based generator: these must never change, or old runs cannot be repeated.
    assert here.tolist()[:6] == [1, 2, 14, 9, 6, 18]


@pytest.mark.parametrize("seed", range(5))
def test_packing_is_first_fit_decreasing(seed):
    lengths, capacity = random_lengths(60, 50, seed), 64
    rows = first_fit_decreasing(lengths, capacity)
    assert sorted(itertools.chain(*rows)) == list(range(60))
    assert all(sum(lengths[n] for n in row) <= capacity for row in rows)
    # The textbook algorithm, in plain Python.
    expected: list[list[int]] = []
    for n in sorted(range(60), key=lambda n: -lengths[n]):
        for row in expected:
            if sum(lengths[m] for m in row) + lengths[n] <= capacity:
                row.append(n)
                break
        else:
            expected.append([n])
    assert rows == expected
    fewest = -(-sum(lengths) // capacity)
    assert len(rows) <= 11 / 9 * fewest + 1


def test_packed_rows_keep_the_order_of_the_shuffle():
    order = np.array([3, 1, 0, 2, 4])
    rows = rows_of([3, 6, 8, 5, 2], order, 10, True)
    # Longest first: 2; 1; 3; then 0 into the row of 1, and 4 into that of 2.
    assert rows == [[3], [1, 0], [2, 4]]
    long = rows_of([1] * (WINDOW + 5), np.arange(WINDOW + 5), 4, True)
    assert sorted(itertools.chain(*long)) == list(range(WINDOW + 5))
    assert all(max(row) < WINDOW or min(row) >= WINDOW for row in long)


def test_arrays_of_a_packed_row():
    shape = BatchShape(2, 16, True, pad=9)
    task = encoded(lengths=(4, 6))
    row = task.splits["train"]
    batch = stack([[row], []], shape, "text")
    assert batch.tokens.shape == (2, 2, 16)
    assert batch.labels is None
    assert batch.types is None
    places = np.arange(16)
    tokens = [100, 101, 102, 103, 200, 201, 202, 203, 204, 205]
    assert batch.tokens[0, 0].tolist() == tokens + [9] * 6
    assert batch.segments[0, 0].tolist() == [1] * 4 + [2] * 6 + [0] * 6
    assert batch.positions[0, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 5] + [0] * 6
    learned = (batch.segments[0, 0] > 0) & np.isin(places, [2, 3, 7, 8, 9])
    assert np.array_equal(batch.weights[0, 0], learned)
    for field in (batch.positions, batch.segments, batch.weights):
        assert not field[1].any()
        assert not field[0, 1].any()
    assert (batch.tokens[1] == 9).all()
    types = [a.dtype for a in batch[:4]]
    assert types == [np.int32, np.int32, np.int32, np.float32]


def test_the_first_token_of_a_segment_is_never_learned():
    example = Example(np.array([5, 6, 7], np.int32), 0, Line("x", "x"))
    batch = stack([[(example, example)]], BatchShape(1, 8), "text")
    assert batch.weights[0, 0].tolist() == [0, 1, 1, 0, 1, 1, 0, 0]


@pytest.mark.parametrize(("kind", "dtype"), [("classification", np.int32), ("regression", "f4")])
def test_arrays_of_labelled_rows(kind, dtype):
    task = encoded(lengths=(4, 6, 5), kind=kind)
    batches = TaskBatches(task, BatchShape(2, 512))
    last = Position(0, 1)
    batch = stack([batches.step(last)], batches.shape, kind)
    assert batch.labels.dtype == dtype
    assert batch.labels.shape == (1, 2)
    assert batch.weights[0, :, 0].tolist() == [1, 0]
    assert batch.weights.sum() == 1
    assert batch.labels[0, 0] == batches.step(last)[0][0].line.label
    assert batch.types.tolist() == np.zeros((1, 2, 32)).tolist()
    example = batches.step(last)[0][0]
    places = np.arange(len(example.tokens))
    second = replace(example, types=(places >= 2).astype(np.int32))
    types = stack([[(second,)]], batches.shape, kind).types
    assert (types.dtype, types[0, 0].nonzero()[0].tolist()) == (np.int32, places[2:].tolist())
    with pytest.raises(RecipeError, match=rf"packing is True, but task t is a {kind}"):
        TaskBatches(task, BatchShape(2, 512, packing=True))


def test_prompts_to_generate_from():
    task = encoded(lengths=(4, 6))
    short, long = task.splits["train"]
    tokens, lengths = stack_prompts([[short, long], [long], []], BatchShape(1, 64, pad=9))
    assert tokens.shape == (3, 2, 32)
    assert lengths.tolist() == [[2, 3], [3, 0], [0, 0]]
    assert (tokens.dtype, lengths.dtype) == (np.int32, np.int32)
    assert tokens[0, 0].tolist() == [100, 101] + [9] * 30
    assert tokens[1, 0].tolist() == [200, 201, 202] + [9] * 29
    assert (tokens[2] == 9).all()


def test_few_lengths():
    assert {padded_length(n, 1000) for n in range(1001)} == {32, 64, 128, 256, 512, 1000}
    assert all(padded_length(n, 1000) >= n for n in range(1001))
    assert padded_length(5, 16) == 16


def test_evaluation_holds_a_split_in_order():
    batches = TaskBatches(encoded(dev=random_lengths(7, 9)), BatchShape(3, 32))
    steps = batches.evaluation()
    assert [len(step) for step in steps] == [3, 3, 1]
    firsts = [int(row[0].tokens[0]) for step in steps for row in step]
    assert firsts == [100 * n for n in range(1, 8)]
    shape = BatchShape(6, 32, parts=3)
    assert shape.part == BatchShape(2, 32)
    sizes = [len(s) for s in TaskBatches(encoded(dev=[4] * 7), shape).evaluation()]
    assert sizes == [2, 2, 2, 1]
    packed = TaskBatches(encoded(dev=random_lengths(7, 9)), BatchShape(3, 32, packing=True))
    rows = list(itertools.chain(*packed.evaluation()))
    assert len(rows) < 7
    assert sorted(int(e.tokens[0]) for row in rows for e in row) == firsts
    assert TaskBatches(encoded(dev=()), BatchShape(3, 32)).evaluation() == []


def test_evaluation_is_bounded_by_a_fixed_draw():
    def firsts(name, most, seed=0, count=40):
        task = encoded(name, dev=[4] * count)
        steps = TaskBatches(task, BatchShape(3, 32), seed, most).evaluation()
        assert [len(step) for step in steps[:-1]] == [3] * (len(steps) - 1)
        return [int(row[0].tokens[0]) for step in steps for row in step]

    few = firsts("a", 7)
    assert len(few) == 7
    assert few == sorted(few)
    assert few != [100 * n for n in range(1, 8)]
    # The same in every run, in part also when more of them are wanted; another for another task.
    assert few == firsts("a", 7, seed=5)
    assert set(few) < set(firsts("a", 20))
    assert few != firsts("b", 7)
    assert firsts("a", 40) == firsts("a", 99) == firsts("a", None)
