"""Training on one machine's accelerator, in one command that needs no network.

Parity in bfloat16, Mistral-7B and Llama-3-8B shapes with random weights, and stacks of RoBERTa-base
against one task after another. Writes what it found after every measurement. Exits with 1 if a
check fails.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from benchmarks.machine import command, describe_machine, describe_process
from benchmarks.training_parity import check_bfloat16
from benchmarks.training_runs import Clock, Run, attempt, drawn, matmul_ceiling
from benchmarks.training_shapes import LLAMA_3_8B, MISTRAL_7B, ROBERTA_BASE, Shapes, small
from benchmarks.training_stacks import compare_stacks
from jaxtask.finetune.models.config import parse_config

_RESULTS = Path(__file__).parent / "results"

# Seconds of each section on one H200; together, with the start of the process, ten minutes.
_SECONDS = {
    "parity": 80.0,
    "ceiling": 10.0,
    "mistral-7b": 175.0,
    "llama-3-8b": 180.0,
    "stacks": 85.0,
    "sweep": 60.0,
}

Rows = Iterator[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--out", type=Path, default=_RESULTS / "training.json")
    parser.add_argument("--small", action="store_true", help="tiny sizes, for a CPU")
    parser.add_argument("--only", nargs="+", choices=_SECONDS, default=list(_SECONDS))
    arguments = parser.parse_args()
    report: dict[str, Any] = {
        "command": command("benchmarks.training", sys.argv[1:]),
        "machine": describe_machine(),
        "process": describe_process(),
        "sections": {},
    }
    sizes = small() if arguments.small else Shapes()
    rows = {
        "parity": lambda clock: check_bfloat16(),
        "mistral-7b": lambda clock: _decoder(MISTRAL_7B, sizes, report, clock),
        "llama-3-8b": lambda clock: _decoder(LLAMA_3_8B, sizes, report, clock),
        "stacks": lambda clock: compare_stacks(
            parse_config(sizes.fields(ROBERTA_BASE), "roberta-base"), sizes, _ceiling(report), clock
        ),
        "sweep": lambda clock: _sweep(sizes, report, clock),
        "ceiling": lambda clock: iter([matmul_ceiling(sizes.products, sizes.repeats)]),
    }
    only = [name for name in _SECONDS if name in arguments.only]
    if "ceiling" not in only and set(only) != {"parity"}:
        only = ["ceiling", *only]  # Utilisation is a share of it.
    for name in only:
        _measure(name, rows[name], report, arguments.out)
    checks = report["sections"].get("parity", [])
    if not all(check["holds"] for check in checks):
        sys.exit("a check failed")


def _measure(name: str, rows: Callable[[Clock], Rows], report: dict[str, Any], out: Path) -> None:
    """One section, written down row by row: a lease may end in the middle."""
    clock = Clock(_SECONDS[name])
    found = report["sections"].setdefault(name, [])
    for row in rows(clock):
        found.append({**row, "section_seconds": clock.seconds - clock.left})
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = out.with_suffix(".draft")
        draft.write_text(json.dumps(report, indent=1) + "\n")
        os.replace(draft, out)
        print(name, row, flush=True)


def _ceiling(report: dict[str, Any]) -> float:
    return float(report["sections"]["ceiling"][0]["flops_per_second"])


def _decoder(fields: dict[str, Any], sizes: Shapes, report: dict[str, Any], clock: Clock) -> Rows:
    """The two runs that are to be beaten, each with the fastest attention there is."""
    model = drawn(parse_config(sizes.fields(fields), "config"))
    for run in (_published(sizes), _packed(sizes)):
        row = attempt(run, model, _ceiling(report), clock)
        yield row
        if "failed" in row and run.attention == "cudnn":
            yield attempt(replace(run, attention="xla"), model, _ceiling(report), clock)


def _sweep(sizes: Shapes, report: dict[str, Any], clock: Clock) -> Rows:
    """Mistral-7B with fewer rows, with XLA's attention, and without remat, while there is time."""
    model = drawn(parse_config(sizes.fields(MISTRAL_7B), "config"))
    run = replace(_packed(sizes), steps=sizes.sweep_steps)
    runs = [replace(run, rows=rows) for rows in sizes.sweep_rows]
    if run.attention == "cudnn":
        runs.insert(1, replace(run, attention="xla"))
    runs.append(replace(run, rows=1, remat=False))
    for one in runs:
        if clock.left < 0:
            yield {**vars(one), "left_out": "no time was left"}
        else:
            yield attempt(one, model, _ceiling(report), clock)


def _packed(sizes: Shapes) -> Run:
    return Run(
        name="rank 16, all linear layers, packed",
        rank=16,
        targets=("all-linear",),
        rows=sizes.rows,
        places=sizes.places,
        documents=4,
        attention=_fastest(),
        steps=sizes.steps,
    )


def _published(sizes: Shapes) -> Run:
    """Single documents, of which the last quarter is learned: the longest there are."""
    return Run(
        name="published: rank 8, q_proj and v_proj, dropout, one document a step",
        rank=8,
        targets=("q_proj", "v_proj"),
        rows=1,
        places=sizes.places,
        answer=0.25,
        dropout=0.05,
        attention=_fastest(),
        steps=sizes.steps,
    )


def _fastest() -> Any:
    return "cudnn" if jax.default_backend() == "gpu" else "xla"


if __name__ == "__main__":
    main()
