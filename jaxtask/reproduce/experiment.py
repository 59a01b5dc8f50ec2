"""An experiment: corpora, their tasks, how adapters are trained on them, and what is asked."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Any

from jaxtask.corpora.tasks import find_tasks
from jaxtask.errors import ExperimentError, JaxtaskError, shown
from jaxtask.finetune.recipe import checks
from jaxtask.finetune.recipe.files import read_settings
from jaxtask.finetune.recipe.settings import Recipe, make_recipe, plain
from jaxtask.names import check_below, check_names, check_path
from jaxtask.reproduce.published import Published, Row
from jaxtask.reproduce.settings import check_keys, mapping, setting, settings, take
from jaxtask.text_files import MAX_YAML_BYTES, read_text

# Where an experiment's runs lie, and which seed each has, is not for the file to say.
_SET_HERE = ("base", "data", "out", "work", "start", "tasks")


@dataclass(frozen=True)
class Excerpt:
    """Which part of a document is used: from the first place where it is dense enough on.

    Attributes:
        sentences: So many sentences in a row …
        tokens: … have at most so many tokens.

    """

    sentences: int = setting(checks.whole(1))
    tokens: int = setting(checks.whole(1))


@dataclass(frozen=True)
class Corpus:
    """Annotated documents, and the tasks that are built from them.

    Attributes:
        tasks: Tasks by name; see `jaxtask tasks list`.
        folder: Below the folder of all data.
        train: Files, below the folder.
        summaries: JSON lines, below the folder; for the task `sum`.
        documents: The largest number of documents to train on, …
        held_out: … and so many to evaluate on, of those that have an excerpt.
        excerpt: Null for whole documents.
        prefix: What the names of its adapters begin with.

    """

    tasks: tuple[str, ...] = setting(checks.filled(checks.texts()))
    folder: str = setting(checks.text())
    train: tuple[str, ...] = setting(checks.filled(checks.texts()))
    dev: tuple[str, ...] = setting(checks.filled(checks.texts()))
    summaries: str | None = setting(checks.optional(checks.text()), None)
    documents: int = setting(checks.whole(1), 48)
    held_out: int = setting(checks.whole(1), 12)
    excerpt: Excerpt | None = None
    prefix: str | None = setting(checks.optional(checks.text()), None)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its adapters."""
        return tuple(f"{self.prefix or ''}{task}" for task in self.tasks)


@dataclass(frozen=True)
class Experiment:
    """All of it, checked.

    Attributes:
        recipe: The recipe as in its file, without base, data and folders.
        seeds: Each of A's initial values, of the order of the data and of dropout, in a run of its
            own.
        groups: Group → its adapters; every adapter in one group, or no groups at all.
        table: Adapters that are projected on each other in the table of pairs.
        published: What the runs are compared with.

    """

    corpora: Mapping[str, Corpus]
    recipe: Mapping[str, Any]
    seeds: tuple[int, ...] = (0,)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    table: tuple[str, ...] = ()
    published: Published | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all adapters."""
        return tuple(name for corpus in self.corpora.values() for name in corpus.names)

    @property
    def group_of(self) -> dict[str, str] | None:
        """Adapter → its group."""
        return {name: group for group, names in self.groups.items() for name in names} or None

    def recipe_for(self, base: str, data: Sequence[str], out: str, seed: int) -> Recipe:
        """The recipe of one seed's run.

        Raises:
            ExperimentError: A section of the recipe is no names with values.
            RecipeError: A setting cannot be used.

        """
        values = {**self.recipe, "base": base, "data": list(data), "out": out}
        for section in ("lora", "training"):
            own = mapping(values.get(section, {}), f"recipe.{section}")
            values[section] = {**own, "seed": seed}
        return make_recipe(values, "recipe")

    def decisive(self) -> dict[str, Any]:
        """What adapters depend on beside their seed, as JSON-able data."""
        whole = dataclasses.asdict(self)
        return plain({key: whole[key] for key in ("corpora", "recipe")})


def shipped_experiments() -> list[str]:
    """The names of the experiments that ship with the package."""
    folder = resources.files("jaxtask.reproduce").joinpath("experiments")
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir())


def read_experiment(source: str) -> Experiment:
    """The experiment in a YAML file, or the shipped one of that name.

    Raises:
        ExperimentError: There is none, or something in it cannot be used. Names the file, the key,
            what was found and what was expected.
        RecipeError: It is no YAML, or its recipe cannot be used.

    """
    path = check_path(source, "experiment", ExperimentError)
    if path.is_file():
        text = read_text(path, ExperimentError, MAX_YAML_BYTES)
    elif source in shipped_experiments():
        folder = resources.files("jaxtask.reproduce").joinpath("experiments")
        text = folder.joinpath(f"{source}.yaml").read_text(encoding="utf-8")
    else:
        shipped = ", ".join(shipped_experiments())
        raise ExperimentError(
            f"{source}: is neither a file nor a shipped experiment: those are {shipped}"
        )
    return make_experiment(read_settings(text, source), source)


def make_experiment(values: Mapping[str, Any], where: str) -> Experiment:
    """An experiment from nested names and values; see `read_experiment` for what is refused."""
    try:
        return _experiment(values)
    except JaxtaskError as error:
        raise ExperimentError(f"{where}: {error}") from None


def _experiment(values: Mapping[str, Any]) -> Experiment:
    known = [f.name for f in dataclasses.fields(Experiment)]
    check_keys(values, known)
    given = mapping(values.get("corpora"), "corpora")
    check_names(given, "corpora: the name", ExperimentError)
    corpora = {name: _corpus(corpus, f"corpora.{name}") for name, corpus in given.items()}
    recipe = mapping(values.get("recipe", {}), "recipe")
    if ours := next((key for key in _SET_HERE if key in recipe), None):
        raise ExperimentError(f"recipe.{ours} is not a setting of an experiment")
    names = checks.filled(checks.texts())
    groups = mapping(values.get("groups", {}), "groups")
    made = Experiment(
        corpora,
        recipe,
        _seeds(values.get("seeds", [0])),
        {group: take(names, own, f"groups.{group}") for group, own in groups.items()},
        take(checks.texts(), values.get("table", []), "table"),
        None if values.get("published") is None else _published(values["published"]),
    )
    _check_names(made)
    # Wrong settings are told before there is any work.
    for seed in made.seeds:
        made.recipe_for("base", [], "out", seed)
    return made


def _corpus(values: Any, key: str) -> Corpus:
    made = settings(Corpus, values, key)
    for name, files in (
        ("folder", (made.folder,)),
        ("train", made.train),
        ("dev", made.dev),
        ("summaries", () if made.summaries is None else (made.summaries,)),
    ):
        for file in files:
            check_below(file, f"{key}.{name}", ExperimentError)
    if made.excerpt is not None:
        made = replace(made, excerpt=settings(Excerpt, made.excerpt, f"{key}.excerpt"))
    try:
        tasks = find_tasks(made.tasks)
    except JaxtaskError as error:
        raise ExperimentError(f"{key}.tasks: {error}") from None
    for task in tasks:
        if task.kind != "text":
            raise ExperimentError(
                f"{key}.tasks has {task.name!r}, a {task.kind}, expected tasks whose targets are "
                "texts"
            )
        if "summary" in task.needs and made.summaries is None:
            raise ExperimentError(f"{key}.summaries is missing, but {task.name!r} needs it")
    return made


def _published(value: Any) -> Published:
    made = settings(Published, value, "published")
    if not isinstance(made.table, list | tuple):
        raise ExperimentError(f"published.table is {shown(made.table)}, expected a list of rows")
    rows = (settings(Row, row, f"published.table.{n}") for n, row in enumerate(made.table))
    return replace(made, table=tuple(rows))


def _seeds(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not value or len(set(map(shown, value))) < len(value):
        raise ExperimentError(
            f"seeds is {shown(value)}, expected a list of different whole numbers"
        )
    return tuple(take(checks.whole(0, checks.MOST_SEED), seed, "seeds") for seed in value)


def _check_names(made: Experiment) -> None:
    """No two adapters of one name, and no name that no adapter has."""
    names = made.names
    if not names:
        raise ExperimentError("corpora is empty, expected at least one corpus with tasks")
    if twice := next((n for n in names if names.count(n) > 1), None):
        raise ExperimentError(
            f"two adapters are named {shown(twice, 100)}: give one corpus a prefix"
        )
    check_names(names, "corpora: the adapter's name", ExperimentError)
    grouped = [name for own in made.groups.values() for name in own]
    for key, used in (("groups", grouped), ("table", made.table)):
        if unknown := next((n for n in used if n not in names), None):
            raise ExperimentError(
                f"{key} has {shown(unknown, 100)}, expected one of the adapters "
                f"{', '.join(names):.400}"
            )
        if twice := next((n for n in used if list(used).count(n) > 1), None):
            raise ExperimentError(f"{key} has {shown(twice, 100)} twice")
    if made.published is not None:
        rows = made.published.table
        used = [name for row in rows for name in (row.source, row.target)]
        used += [name for pair in made.published.includes for name in pair]
        for key, own, known in (
            ("published.cluster", made.published.cluster, made.groups),
            ("published", used, made.table),
        ):
            if unknown := next((n for n in own if n not in known), None):
                what = ", ".join(known) or "nothing"
                raise ExperimentError(
                    f"{key} has {shown(unknown, 100)}, expected one of {what:.400}"
                )
    if grouped and (missing := next((n for n in names if n not in grouped), None)):
        raise ExperimentError(
            f"groups has no {shown(missing, 100)}, expected every adapter in one group"
        )
