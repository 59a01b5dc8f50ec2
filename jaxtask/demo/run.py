"""From nothing to findings in five steps, each of which says what came of it."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxtask.adapters import load_adapters
from jaxtask.analysis import pool, silhouette
from jaxtask.cli.tables import pooled_tables, trained_tables
from jaxtask.corpora import TASKS, build_tasks, plain_prompt, tokens_of
from jaxtask.demo.base import make_tokenizer, pretrain, text_of, token_stream
from jaxtask.demo.grammar import generate, write_corpus
from jaxtask.engine import compare
from jaxtask.errors import JaxtaskError
from jaxtask.finetune.models.load import save_model
from jaxtask.finetune.recipe.settings import make_recipe
from jaxtask.finetune.run import fine_tune
from jaxtask.finetune.training.progress import live
from jaxtask.folders import clean, foreign, new_file
from jaxtask.names import check_path
from jaxtask.version import __version__

if TYPE_CHECKING:
    import xarray as xr
    from rich.console import Console

Say = Callable[[str], None]

GROUPS = {
    "linguistic": ("ner", "ner-list", "coref", "srl", "syntax", "sum"),
    "counting": (
        "first10-sent", "last10-sent", "every10-sent", "every2-sent", "first10-word", "every2-word",
    ),
}  # fmt: skip
NAMES = tuple(name for names in GROUPS.values() for name in names)

# Long enough that every tenth sentence is not the first tenth of them.
_SENTENCES = (11, 24)
_MAX_LEN = 256
_LORA = {"r": 8, "alpha": 16.0, "dropout": 0.0, "targets": "all-linear"}
# Only the end is evaluated, and the run is too short for checkpoints.
_TRAINING = {
    "batch": 4, "max_len": _MAX_LEN, "lr": 1e-2, "schedule": "linear", "remat": False,
    "eval_every": 10**6, "checkpoint_every": 10**6, "generate": 1, "generate_tokens": 48,
}  # fmt: skip
_MARK = "demo.json"
# All that a demo leaves, so that nothing else is removed with it.
_OURS = (
    _MARK, "corpus/*.conll", "corpus/summaries.jsonl", "base/config.json", "base/model.safetensors",
    "base/tokenizer.json", "base/tokenizer_config.json", "base/special_tokens_map.json",
    *(f"tasks/{name}/{file}" for name in NAMES
      for file in ("task.json", "train.jsonl", "dev.jsonl")),
    *(f"adapters/{name}/{file}" for name in NAMES
      for file in ("adapter_config.json", "adapter_model.safetensors", "jaxtask.json")),
    "adapters.work/stacks.json", "adapters.work/group-*/metrics.jsonl",
    "adapters.work/group-*/generated.jsonl", "adapters.work/group-*/checkpoints/**",
    "result.zarr/**", "result.zarr.partial/**",
)  # fmt: skip
_DRAFTS = ("corpus", "tasks", "adapters", "adapters.work", "adapters.work/group-*")


@dataclass(frozen=True)
class Sizes:
    """How much is done: by default what takes two cores between two and three minutes.

    Attributes:
        documents: Training documents of each task.
        read: Documents that the base model is pre-trained on; no task sees them.
        steps: Steps of pre-training.
        epochs: Epochs of fine-tuning.

    """

    documents: int = 88
    held_out: int = 12
    read: int = 1000
    steps: int = 420
    epochs: int = 3


def run(out: Path, console: "Console", sizes: Sizes | None = None) -> "xr.Dataset":
    """The whole demo: corpus, base model, tasks, adapters and their comparison, below `out`.

    Raises:
        JaxtaskError: `out` holds something that is no demo.

    """
    sizes = sizes or Sizes()
    start = time.monotonic()

    def say(text: str) -> None:
        seconds = time.monotonic() - start
        console.print(f"[{seconds:3.0f} s] {text}", soft_wrap=True)

    _clear(out)
    _corpus(out, sizes, say)
    tokenizer = _base_model(out, sizes, say)
    _tasks(out, tokenizer, say)
    _adapters(out, sizes, console, say)
    ds = _comparison(out, console, say)
    say(f"Written: {out}/corpus, base, tasks, adapters (PEFT format), result.zarr")
    return ds


def _clear(out: Path) -> None:
    """An empty folder; what an earlier demo left there goes."""
    check_path(out, "out", JaxtaskError)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            _remove(out)
        with new_file(out / _MARK) as file:
            file.write(json.dumps({"jaxtask": __version__}).encode() + b"\n")
    except OSError as error:
        raise JaxtaskError(f"{out}: cannot be used: {error.strerror}") from error


def _remove(out: Path) -> None:
    """What an earlier demo left goes, if there is nothing else."""
    if not (out / _MARK).is_file():
        raise JaxtaskError(f"{out}: is there already and holds no demo (no {_MARK})")
    for folder in (out, *(path for pattern in _DRAFTS for path in out.glob(pattern))):
        if folder.is_dir() and not folder.is_symlink():
            clean(folder)
    if other := foreign(out, _OURS):
        raise JaxtaskError(f"{out}: holds {other!r:.200} beside a demo, so it is left alone")
    for path in sorted(out.iterdir(), key=lambda path: path.name == _MARK):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _corpus(out: Path, sizes: Sizes, say: Say) -> None:
    write_corpus(
        out / "corpus",
        train=sizes.documents,
        dev=sizes.held_out,
        test=sizes.held_out,
        sentences=_SENTENCES,
    )
    say(
        f"Corpus: {sizes.documents} documents from a grammar, with entities, coreference, frames "
        f"and parse, and {sizes.held_out} held out."
    )


def _base_model(out: Path, sizes: Sizes, say: Say) -> Any:
    """Writes tokenizer and model, and returns the tokenizer."""
    used = sizes.documents + 2 * sizes.held_out
    texts = [text_of(d) for d in generate(sizes.read, start=used, sentences=_SENTENCES)]
    one = next(generate(1, start=used, sentences=_SENTENCES))
    prompts = [plain_prompt(TASKS[name].function(one)[0], "") for name in NAMES]
    tokenizer = make_tokenizer(texts + prompts)
    tokens = token_stream(tokenizer, texts)
    say(
        f"Base model: a tokenizer of {len(tokenizer)} tokens, and a tiny Llama that reads "
        f"{sizes.read:,} further documents, {len(tokens):,} tokens."
    )
    model = pretrain(
        tokens,
        tokenizer,
        sizes.steps,
        lambda step, loss: say(f"  step {step} of {sizes.steps}: {loss:.2f} nats per token"),
    )
    save_model(model, out / "base")
    tokenizer.save_pretrained(out / "base")
    return tokenizer


def _tasks(out: Path, tokenizer: Any, say: Say) -> None:
    built = build_tasks(
        NAMES,
        {split: [out / f"corpus/{split}.conll"] for split in ("train", "dev")},
        out / "tasks",
        summaries=out / "corpus/summaries.jsonl",
        max_len=_MAX_LEN,
        length=tokens_of(tokenizer, str(out / "base")),
    )
    examples = sum(split["examples"] for about in built for split in about["splits"].values())
    say(f"Tasks: {len(built)}, with {examples:,} examples of at most {_MAX_LEN} tokens.")


def _adapters(out: Path, sizes: Sizes, console: "Console", say: Say) -> None:
    recipe = make_recipe(
        {
            "base": str(out / "base"),
            "data": [str(out / "tasks" / name) for name in NAMES],
            "out": str(out / "adapters"),
            "dtype": "float32",
            "lora": _LORA,
            "training": {"epochs": sizes.epochs, **_TRAINING},
        },
        "the demo",
    )
    say(f"Fine-tuning: {len(NAMES)} LoRA adapters of rank {recipe.lora.r} at once.")
    outcomes = fine_tune(recipe, command=f"jaxtask demo --out {out}", display=lambda: live(console))
    for table in trained_tables([outcome.json() for outcome in outcomes]):
        console.print(table)
    say("Fine-tuned. A model this small learns the form of targets, hardly what documents say.")


def _comparison(out: Path, console: "Console", say: Say) -> "xr.Dataset":
    bank = load_adapters([str(out / "adapters" / name) for name in NAMES])
    ds = compare(bank, out=out / "result.zarr", command=f"jaxtask demo --out {out}")
    say("Comparison: every metric for every layer, module and pair of tasks.")
    for table in pooled_tables(ds, ("grassmann_out", "rec")):
        console.print(table)
    console.print(verdict(pool(ds, "grassmann_out").values), soft_wrap=True)
    return ds


def verdict(distances: np.ndarray) -> str:
    """Whether the two kinds of tasks lie apart, in words and numbers; `distances` [T, T]."""
    groups = np.array([group for group, names in GROUPS.items() for _ in names])
    same = groups[:, None] == groups
    others = ~np.eye(len(groups), dtype=bool)
    within = {g: distances[same & others & (groups == g)[:, None]].mean() for g in GROUPS}
    between = distances[~same].mean()
    apart = silhouette(distances, list(groups)).mean()
    separate = between > max(within.values()) and apart > 0
    numbers = ", ".join(f"{value:.3f} within {group} tasks" for group, value in within.items())
    return (
        f"Linguistic and counting tasks {'separate' if separate else 'do NOT separate'} in this "
        f"run: mean Grassmann distance {numbers}, {between:.3f} between the two; mean silhouette "
        f"{apart:.3f} (from -1 to 1)."
    )
