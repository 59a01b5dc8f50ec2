"""Evaluation of tasks' models on dev examples: generated texts, classes or values.

All tasks at once, as in training, with two sets of parameters: those before training and after.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxtask.errors import TrainingError
from jaxtask.finetune.data.batches import BatchShape, sample, stack, stack_prompts
from jaxtask.finetune.data.examples import EncodedTask, Example
from jaxtask.finetune.data.tokens import Tokens, decode
from jaxtask.finetune.evaluation.generate import generate
from jaxtask.finetune.evaluation.scores import Scored, Text, score, score_classes, score_values
from jaxtask.finetune.models.decoder import Decoder
from jaxtask.finetune.training.bookkeeping import TaskRun
from jaxtask.finetune.training.lora import Parameters
from jaxtask.finetune.training.step import TaskNumbers, adapters_of
from jaxtask.folders import new_file


def evaluate_texts(
    model: Decoder,
    tokenizer: Any,
    tasks: Sequence[EncodedTask],
    sides: tuple[Parameters, Parameters],
    numbers: TaskNumbers,
    shape: BatchShape,
    count: int,
    new: int,
) -> list[Scored | None]:
    """Generate from `count` dev examples of each task, greedily, at most `new` tokens each.

    Args:
        model: The frozen base.
        tokenizer: A tokenizer of transformers, or the `Tokens` of one. Its end-of-text token ends a
            text, and those of the model's end tokens that are control tokens of the tokenizer.
        tasks: Tasks with dev examples; a task without any gets None.
        sides: The parameters of all tasks before training and after.
        numbers: Numbers of the tasks.
        shape: `shape.part` rows are generated at once: as many as an evaluation takes.
        count: Examples of each task; the same ones whatever the run.
        new: Tokens.

    """
    chosen = [_draw(task, count) for task in tasks]
    if not any(chosen):
        return [None for _ in tasks]
    prompts, lengths = stack_prompts(chosen, shape)
    # Whole parts: all of them run one compiled program.
    rows = shape.part.rows
    more = -lengths.shape[1] % rows
    prompts = np.pad(prompts, [(0, 0), (0, more), (0, 0)])
    lengths = np.pad(lengths, [(0, 0), (0, more)])
    tokens = tokenizer if isinstance(tokenizer, Tokens) else Tokens(tokenizer)
    ends = tokens.ends(model.config.ends)

    def texts(parameters: Parameters) -> list[list[str]]:
        adapters = adapters_of(parameters, numbers)
        parts = [
            generate(
                model,
                jnp.asarray(prompts[:, n : n + rows]),
                jnp.asarray(lengths[:, n : n + rows]),
                new,
                adapters,
                ends=ends,
            )
            for n in range(0, lengths.shape[1], rows)
        ]
        written = np.concatenate([np.asarray(part) for part in parts], axis=1)
        return [
            [decode(tokens.tokenizer, row) for row in own[: len(examples)]]
            for own, examples in zip(written, chosen, strict=True)
        ]

    before, after = texts(sides[0]), texts(sides[1])
    return [_compared(*own) if own[0] else None for own in zip(chosen, before, after, strict=True)]


def evaluate_labels(
    predict: Callable[..., Any],
    runs: Sequence[TaskRun],
    sides: tuple[Parameters, Parameters],
    numbers: TaskNumbers,
) -> list[Scored | None]:
    """Predict the classes or values of the examples that tasks are evaluated on.

    `predict` is of `make_predict`; `sides` as in `evaluate_texts`.
    """
    kind, shape = runs[0].batches.kind, runs[0].batches.shape.part
    steps = [run.batches.evaluation() for run in runs]
    right = [[row[0].line.label for step in own for row in step] for own in steps]

    def predicted(parameters: Parameters) -> list[list[Any]]:
        found: list[list[Any]] = [[] for _ in runs]
        for n in range(max(map(len, steps))):
            rows = [own[n] if n < len(own) else [] for own in steps]
            scores = np.asarray(predict(parameters, numbers, stack(rows, shape, kind)))
            for t, own in enumerate(rows):
                live = scores[t, : len(own)]
                found[t] += (
                    live.argmax(-1) if kind == "classification" else live[:, 0].astype(float)
                ).tolist()
        return found

    measure: Any = score_classes if kind == "classification" else score_values
    before, after = predicted(sides[0]), predicted(sides[1])
    return [
        Scored(len(truth), measure(first, truth)._asdict(), measure(last, truth)._asdict())
        if truth
        else None
        for truth, first, last in zip(right, before, after, strict=True)
    ]


def write_texts(file: Path, found: Mapping[str, Scored]) -> None:
    """Write the generated texts of tasks, by their names, as JSON lines: whole or not at all.

    Raises:
        TrainingError: The file cannot be written.

    """
    lines = [
        json.dumps({"task": task, **asdict(text)}, ensure_ascii=False) + "\n"
        for task, scored in found.items()
        for text in scored.texts
    ]
    try:
        with new_file(file) as draft:
            draft.write("".join(lines).encode())
    except OSError as error:
        raise TrainingError(f"{file}: cannot be written: {error}") from error


def _draw(task: EncodedTask, count: int) -> list[Example]:
    examples = task.splits.get("dev", ())
    return [examples[place] for place in sample(len(examples), count, task.name)]


def _compared(examples: Sequence[Example], before: list[str], after: list[str]) -> Scored:
    lines = [example.line for example in examples]
    targets = [line.target for line in lines]
    texts = tuple(
        Text(line.source, line.instruction, line.text, line.target, first, last)
        for line, first, last in zip(lines, before, after, strict=True)
    )
    return Scored(
        len(lines), score(before, targets)._asdict(), score(after, targets)._asdict(), texts
    )
