"""Real training on real text: does the loss on held-out documents fall for every task?

Takes documents of GUM (entities, coreference, parse, summaries) and of EWT (parse, predicates),
both in CoNLL-2012 columns, builds a task for each annotation they have and the counting tasks on
both, so that corpus and task can be told apart, and trains all at once. Exits with 1 if the loss of
a task did not fall, after writing what it found.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

import jaxtask as jt
from benchmarks.machine import command, describe_machine, describe_process, installed
from jaxtask.corpora import (
    TASKS,
    Length,
    build_tasks,
    read_documents,
    tokens_of,
    write_conll,
)
from jaxtask.finetune.data.examples import open_tokenizer
from jaxtask.finetune.recipe.settings import make_recipe
from jaxtask.finetune.training.progress import live
from jaxtask.reproduce.data import spread

_RESULTS = Path(__file__).parent / "results"
_FILES = {
    "gum": {"train": "gum-train.gold_conll.gz", "dev": "gum-dev.gold_conll.gz"},
    "ewt": {"train": "ewt-train.gold_conll.gz", "dev": "ewt-dev.gold_conll.gz"},
}
_FOLDERS = {"gum": "gum-conll2012", "ewt": "ewt-propbank"}
_COUNTING = tuple(name for name, task in TASKS.items() if task.kind == "text" and not task.needs)
_TASKS = {
    "gum": ("ner", "ner-list", "coref", "coref-list", "syntax", "sum", *_COUNTING),
    "ewt": ("srl", "srl-list", "syntax", *_COUNTING),
}
_TRAINERS = ("flax", "optax", "orbax-checkpoint", "transformers", "gguf")


def build(
    corpus: str,
    names: Sequence[str],
    data: Path,
    work: Path,
    documents: Mapping[str, int],
    max_len: int,
    length: Length,
) -> list[dict[str, Any]]:
    """Task folders ``<corpus>-<task>`` in ``work/data``; what each ``task.json`` says."""
    source, files = data / _FOLDERS[corpus], {}
    for split, name in _FILES[corpus].items():
        files[split] = [work / f"{corpus}-{split}.conll"]
        write_conll(spread(list(read_documents(source / name)), documents[split]), files[split][0])
    built = build_tasks(
        names,
        files,
        work / "data",
        summaries=source / "summaries.jsonl" if corpus == "gum" else None,
        # A folder's name is the adapter's, and both corpora have the counting tasks.
        prefix=f"{corpus}-",
        max_len=max_len,
        length=length,
        overwrite=True,
    )
    return [{"task": about["task"], "splits": about["splits"]} for about in built]


def train(given: argparse.Namespace, built: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Train all tasks at once; settings, time, and every task's loss before and after."""
    recipe = make_recipe(
        {
            "base": given.base,
            "data": [str(given.work / "data" / about["task"]) for about in built],
            "out": str(given.work / "adapters"),
            "dtype": given.dtype,
            "training": {
                "epochs": given.epochs,
                "batch": given.batch,
                "lr": given.lr,
                "max_len": given.max_len,
                "eval_every": 10**6,  # before the first step and after the last one
                "checkpoint_every": 5,
                "log_every": 1,
            },
        },
        "real_text",
    )
    start = time.perf_counter()
    outcomes = jt.fine_tune(
        recipe,
        overwrite=not given.resume,
        resume=given.resume,
        display=lambda: live(Console(stderr=True)),
    )
    seconds = time.perf_counter() - start
    settings = recipe.json()
    tasks = [
        {
            **about,
            "steps": outcome.record.steps,
            "held_out_loss": {"before": outcome.loss_before, "after": outcome.record.dev_loss},
        }
        for about, outcome in zip(built, outcomes, strict=True)
    ]
    return {
        "lora": settings["lora"],
        "training": settings["training"],
        "seconds": seconds,
        "resumed": given.resume,
        "tasks": tasks,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_text", description=__doc__)
    parser.add_argument("--base", required=True, help="a decoder: folder or .gguf file")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the corpora")
    for corpus, names in _TASKS.items():
        parser.add_argument(f"--{corpus}", nargs="*", choices=names, default=names, metavar="TASK")
    parser.add_argument("--documents", type=int, default=84, help="of each corpus, to train on")
    parser.add_argument("--held-out", type=int, default=12, help="of each corpus, to evaluate on")
    parser.add_argument("--max-len", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--dtype", default="float32", help="of the base: bfloat16 or float32")
    parser.add_argument("--work", type=Path, required=True, help="folder for tasks and adapters")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--out", type=Path, help="by default results/real-text-BASE.json")
    given = parser.parse_args()
    name = Path(given.base).name
    given.work.mkdir(parents=True, exist_ok=True)

    length = tokens_of(open_tokenizer(given.base), name)
    counts = {"train": given.documents, "dev": given.held_out}
    built = []
    for corpus in _TASKS:
        if names := getattr(given, corpus):
            built += build(corpus, names, given.data, given.work, counts, given.max_len, length)
    trained = train(given, built)
    machine = describe_machine()
    machine["versions"] |= {x: installed(x) or "not installed" for x in _TRAINERS}
    report = {
        "command": command("benchmarks.real_text", sys.argv[1:]),
        "machine": machine,
        "process": describe_process(),
        "base": name,
        **trained,
    }
    out = given.out or _RESULTS / f"real-text-{name.removesuffix('.gguf')}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n")
    risen = []
    for task in trained["tasks"]:
        before, after = task["held_out_loss"].values()
        print(f"{task['task']:20} {before:.4f} → {after:.4f}")
        if not after < before:
            risen.append(task["task"])
    if risen:
        sys.exit(f"the loss did not fall: {', '.join(risen)}")


if __name__ == "__main__":
    main()
