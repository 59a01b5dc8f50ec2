"""The whole pipeline in small: make a corpus and a base model, and run an experiment on them."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtask.cli.tables import pooled_tables, print_sections, trained_tables
from jaxtask.corpora import TASKS, plain_prompt
from jaxtask.demo.base import make_tokenizer, pretrain, text_of, token_stream
from jaxtask.demo.grammar import generate, write_corpus
from jaxtask.engine import open_result
from jaxtask.errors import JaxtaskError
from jaxtask.finetune.models.load import save_model
from jaxtask.finetune.training.progress import live
from jaxtask.folders import foreign, new_file
from jaxtask.names import check_path
from jaxtask.report.findings_json import read_findings
from jaxtask.reproduce.experiment import Experiment, read_experiment
from jaxtask.reproduce.folder import seed_files, task_files, tidy, written
from jaxtask.reproduce.run import Run, reproduce
from jaxtask.version import __version__

if TYPE_CHECKING:
    import xarray as xr
    from rich.console import Console

Say = Callable[[str], None]

# Long enough that every tenth sentence is not the first tenth of them.
_SENTENCES = (11, 24)
_MARK = "demo.json"
# What a demo leaves beside the experiment, so that nothing else is removed with it.
_OURS = (
    _MARK, "corpus/*.conll", "corpus/summaries.jsonl", "base/config.json", "base/model.safetensors",
    "base/tokenizer.json", "base/tokenizer_config.json", "base/special_tokens_map.json",
)  # fmt: skip
# Where drafts may be; earlier versions had an experiment's folders beside the others.
_DRAFTS = ("corpus", "tasks", "adapters", "adapters.work", "adapters.work/group-*")


@dataclass(frozen=True)
class Sizes:
    """How much is done; by default, what takes three to four minutes on two cores.

    Attributes:
        documents: Training documents of each task.
        held_out: Documents of each task to evaluate on.
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
    """The whole demo below `out`: corpus, base model, and the experiment on them.

    Raises:
        JaxtaskError: `out` holds something that is no demo.

    """
    sizes = sizes or Sizes()
    start = time.monotonic()

    def say(text: str) -> None:
        seconds = time.monotonic() - start
        console.print(f"[{seconds:3.0f} s] {text}", soft_wrap=True)

    def show(outcomes: Sequence[Any]) -> None:
        for table in trained_tables([outcome.json() for outcome in outcomes]):
            console.print(table)
        say("A model this small learns the form of the targets, and hardly their content.")

    _clear(out)
    experiment = _experiment(sizes)
    _corpus(out, sizes, say)
    _base_model(out, experiment.names, sizes, say)
    reproduce(
        Run(
            experiment,
            str(out / "base"),
            {"stories": out / "corpus"},
            out / "experiment",
            command=f"jaxtask demo --out {out}",
            display=lambda: live(console),
            say=say,
            show=show,
        )
    )
    place = out / "experiment" / "seed0"
    ds = open_result(place / "result.zarr")
    for table in pooled_tables(ds, ("grassmann_out", "rec")):
        console.print(table)
    print_sections(read_findings(place / "findings"), console)
    say(f"Written: {out}. Open {place}/report.html in a browser.")
    return ds


def _experiment(sizes: Sizes) -> Experiment:
    """The shipped experiment, at these sizes."""
    given = read_experiment("demo")
    (corpus,) = given.corpora.values()
    corpus = replace(corpus, documents=sizes.documents, held_out=sizes.held_out)
    training = {**given.recipe["training"], "epochs": sizes.epochs}
    recipe = {**given.recipe, "training": training}
    return replace(given, corpora={"stories": corpus}, recipe=recipe)


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
    tidy(out, _DRAFTS)
    tidy(out / "experiment")
    if other := foreign(out, _left(out)):
        raise JaxtaskError(f"{out}: holds {other!r:.200} beside a demo, so it is left alone")
    for path in sorted(out.iterdir(), key=lambda path: path.name == _MARK):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _left(out: Path) -> tuple[str, ...]:
    """All that this version and earlier ones leave, as `foreign` takes it."""
    experiment = read_experiment("demo")
    place = "experiment"
    return (
        *_OURS,
        *(f"{place}/{path}" for path in written(out / place, experiment)),
        *task_files("tasks", experiment.names),
        *seed_files(experiment.names),
    )


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


def _base_model(out: Path, names: Sequence[str], sizes: Sizes, say: Say) -> None:
    """Write a tokenizer and a model that is pre-trained on other documents."""
    used = sizes.documents + 2 * sizes.held_out
    texts = [text_of(d) for d in generate(sizes.read, start=used, sentences=_SENTENCES)]
    one = next(generate(1, start=used, sentences=_SENTENCES))
    prompts = [plain_prompt(TASKS[name].function(one)[0], "") for name in names]
    tokenizer = make_tokenizer(texts + prompts)
    tokens = token_stream(tokenizer, texts)
    say(
        f"Base model: a tokenizer of {len(tokenizer)} tokens, and a tiny Llama, pre-trained on "
        f"{sizes.read:,} other documents, {len(tokens):,} tokens."
    )
    model = pretrain(
        tokens,
        tokenizer,
        sizes.steps,
        lambda step, loss: say(f"  step {step} of {sizes.steps}: {loss:.2f} nats per token"),
    )
    save_model(model, out / "base")
    tokenizer.save_pretrained(out / "base")
