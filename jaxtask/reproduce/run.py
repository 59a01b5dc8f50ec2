"""The stages of an experiment, each done once: tasks, and for every seed adapters and findings."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path
from typing import Any, Literal, get_args

from jaxtask.errors import ExperimentError
from jaxtask.finetune.data.lengths import length_of
from jaxtask.finetune.data.tokens import open_tokenizer
from jaxtask.finetune.models.find import base_config, find_base
from jaxtask.finetune.recipe.settings import Recipe, plain
from jaxtask.finetune.run import fine_tune
from jaxtask.finetune.session import Display
from jaxtask.finetune.training.loop import Outcome
from jaxtask.reproduce.across import compare_seeds
from jaxtask.reproduce.data import build_corpus, same_targets
from jaxtask.reproduce.experiment import Experiment
from jaxtask.reproduce.folder import holding, write_json, write_text
from jaxtask.reproduce.numbers import losses, numbers
from jaxtask.reproduce.summary import markdown, summarize
from jaxtask.text_files import read_object

Stage = Literal["tasks", "train", "compare", "report"]
STAGES: tuple[Stage, ...] = get_args(Stage)

# Of documents with one target, from which on two tasks are nearly one.
_ALIKE = 0.5


@dataclass(frozen=True)
class Run:
    """An experiment with its places, and how it says what it does.

    Attributes:
        folders: Corpus → its folder.
        figures: The format of the figures: png, pdf or svg.
        show: Called with the outcomes of each seed's training.

    """

    experiment: Experiment
    base: str
    folders: Mapping[str, Path]
    out: Path
    command: str = ""
    figures: str = "png"
    display: Display = lambda: nullcontext(lambda view: None)
    say: Callable[[str], None] = lambda text: None
    show: Callable[[Sequence[Outcome]], None] = lambda outcomes: None

    def place(self, seed: int) -> Path:
        """The folder of one seed."""
        return self.out / f"seed{seed}"

    def recipe(self, seed: int) -> Recipe:
        """How one seed's adapters are trained."""
        data = [str(self.out / "data" / name) for name in self.experiment.names]
        return self.experiment.recipe_for(self.base, data, str(self.place(seed) / "adapters"), seed)


def reproduce(run: Run, until: Stage = "report") -> None:
    """Do what is left of an experiment, up to and including a stage.

    What is complete below `run.out` is not done again; training resumes from its checkpoints.

    Raises:
        JaxtaskError: Something cannot be used; `ExperimentError` if `run.out` holds another
            experiment, or something else.

    """
    with holding(run.out, {"base": run.base, **run.experiment.decisive()}):
        _stages(run, until)


def _stages(run: Run, until: Stage) -> None:
    _tasks(run)
    if until == "tasks":
        return
    for seed in run.experiment.seeds:
        _train(run, seed)
    if until == "train":
        return
    for seed in run.experiment.seeds:
        _compare(run, seed)
    if until == "compare":
        return
    found = {seed: _findings(run, seed) for seed in run.experiment.seeds}
    _summary(run, found)


def _tasks(run: Run) -> None:
    data, length = run.out / "data", None
    for name, corpus in run.experiment.corpora.items():
        if all((data / task / "task.json").is_file() for task in corpus.names):
            run.say(f"Tasks of {name}: there already.")
            continue
        length = length or length_of(open_tokenizer(run.base), Path(run.base).name)
        build_corpus(
            name,
            corpus,
            run.folders[name],
            run.out,
            max_len=run.recipe(0).training.max_len or base_config(find_base(run.base)).positions,
            length=length,
            command=run.command,
        )
        run.say(f"Tasks of {name}: {', '.join(corpus.names)}.")
    for (one, other), share in same_targets(data, run.experiment.names).items():
        if share > _ALIKE:
            run.say(f"Note: {one} and {other} have the same target in {share:.0%} of documents.")


def _train(run: Run, seed: int) -> None:
    adapters = run.place(seed) / "adapters"
    if all((adapters / name / "jaxtask.json").is_file() for name in run.experiment.names):
        run.say(f"Adapters of seed {seed}: there already.")
        return
    run.say(f"Seed {seed}: {len(run.experiment.names)} adapters.")
    outcomes = fine_tune(
        run.recipe(seed),
        resume=True,
        command=run.command,
        display=run.display,
        note=run.say,
    )
    run.show(outcomes)


def _compare(run: Run, seed: int) -> None:
    from jaxtask.adapters import load_adapters
    from jaxtask.engine import compare

    place = run.place(seed)
    if (place / "result.zarr").exists():
        run.say(f"Comparison of seed {seed}: there already.")
        return
    bank = load_adapters([str(place / "adapters" / name) for name in run.experiment.names])
    compare(
        bank,
        keep=["angles", "spectra", "chance"],
        out=place / "result.zarr",
        command=run.command,
    )
    run.say(f"Seed {seed}: compared, {place}/result.zarr.")


def _findings(run: Run, seed: int) -> dict[str, Any]:
    """One seed's findings and report, and the numbers of them that the summary needs."""
    from jaxtask.analysis.findings import analyze
    from jaxtask.engine import open_result
    from jaxtask.report.figures import draw_figures
    from jaxtask.report.findings import write_findings
    from jaxtask.report.page import write_page
    from jaxtask.report.pairs import telling_pairs

    place, experiment = run.place(seed), run.experiment
    asked = {"groups": plain(experiment.groups), "table": plain(experiment.table)}
    done = place / "numbers.json"
    if done.is_file():
        known = read_object(done, ExperimentError)
        if known.get("asked") == asked:
            run.say(f"Findings of seed {seed}: there already.")
            return known
    ds = open_result(place / "result.zarr")
    findings = analyze(ds, experiment.groups or None)
    table = [findings.tasks.index(name) for name in experiment.table]
    # Pictures show both ways at once.
    pairs = list(combinations(table, 2))
    write_findings(
        findings,
        place / "findings",
        pairs=list(permutations(table, 2)) or None,
        overwrite=True,
        draw=lambda folder: draw_figures(ds, findings, folder, run.figures, pairs or None),
    )
    others = [p for p in telling_pairs(findings) if p not in pairs and p[::-1] not in pairs]
    write_page(ds, findings, place / "report.html", pairs=pairs + others, overwrite=True)
    found = {
        "asked": asked,
        "held_out_loss": losses(place / "adapters", experiment.names),
        **numbers(ds, findings, experiment),
    }
    # Written last: it says that all is there.
    write_json(done, found)
    run.say(f"Seed {seed}: {place}/findings and report.html.")
    return found


def _summary(run: Run, found: Mapping[int, dict[str, Any]]) -> None:
    """All seeds together, and beside what was published."""
    adapters = {seed: run.place(seed) / "adapters" for seed in found}
    names = "-".join(map(str, found))
    across = compare_seeds(
        adapters, run.experiment.names, run.out / f"seeds-{names}.zarr", run.command
    )
    summary = summarize(run.experiment, found, across)
    write_json(run.out / "summary.json", summary)
    write_text(run.out / "summary.md", markdown(run.experiment, summary))
    run.say(f"All seeds: {run.out}/summary.md and summary.json.")
