"""What all seeds of an experiment say together, for people and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxtask.report.escapes import markdown as escaped
from jaxtask.reproduce.experiment import Experiment
from jaxtask.reproduce.published import COLUMNS, DISTANCE, LEVEL, claims, interval, number

Seeds = Mapping[int, Mapping[str, Any]]


def summarize(
    experiment: Experiment, seeds: Seeds, across: Mapping[str, Any] | None
) -> dict[str, Any]:
    """All numbers, and the verdicts on what was published.

    Args:
        experiment: What was asked.
        seeds: Seed → its numbers; see `jaxtask.reproduce.numbers`.
        across: The seeds beside each other; see `jaxtask.reproduce.across`.

    """
    published = experiment.published
    stated = [] if published is None else claims(published, list(seeds.values()))
    return {
        "seeds": {str(seed): dict(found) for seed, found in seeds.items()},
        "across_seeds": across,
        "published": None if published is None else published.name,
        "claims": [claim.json() for claim in stated],
    }


def markdown(experiment: Experiment, summary: Mapping[str, Any]) -> str:
    """The summary as a page of text and tables."""
    seeds = summary["seeds"]
    parts = [
        "# What the runs say",
        f"{len(experiment.names)} adapters on one base model, with seeds {', '.join(seeds)}.",
        *_losses(seeds),
        *_groups(seeds),
        *_agreement(seeds),
        *_pairs(seeds),
        *_inclusion(seeds),
        *_across(summary["across_seeds"]),
        *_published(summary),
        *_notes(seeds),
    ]
    return "\n\n".join(parts) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; cells are text."""
    first, *others = ([escaped(cell) for cell in line] for line in (header, *rows))
    lines = [first, ["---"] * len(header), *others]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def small(p: float | None) -> str:
    """A p value."""
    return "–" if p is None else f"{p:.2g}"


def _losses(seeds: Mapping[str, Any]) -> Iterator[str]:
    yield "## Held-out loss, before and after"
    names = list(next(iter(seeds.values()))["held_out_loss"])
    rows, risen = [], []
    for name in names:
        row = [name]
        for seed, found in seeds.items():
            loss = found["held_out_loss"][name]
            row.append(f"{number(loss['before'])} → {number(loss['after'])}")
            if not _fell(loss):
                risen.append(f"{name} (seed {seed})")
        rows.append(row)
    yield table(["task", *(f"seed {seed}" for seed in seeds)], rows)
    yield (
        f"It did NOT fall for {escaped(', '.join(risen))}."
        if risen
        else f"It fell for all {len(names)} tasks, with every seed."
    )


def _fell(loss: Mapping[str, Any]) -> bool:
    return None not in (loss["before"], loss["after"]) and loss["after"] < loss["before"]


def _groups(seeds: Mapping[str, Any]) -> Iterator[str]:
    first = next(iter(seeds.values()))
    if first["separation"] is None:
        return
    yield f"## Do groups lie apart? ({first['separation']['variable']}, pooled)"
    groups = list(first["separation"]["groups"])
    header = ["seed", "silhouette", *(f"of {g}" for g in groups), "its p", "R²", "PERMANOVA p"]
    rows = []
    for seed, found in seeds.items():
        s = found["separation"]
        own = [number(s["groups"][group]) for group in groups]
        rows.append(
            [seed, number(s["silhouette"]), *own, small(s["silhouette_p"]), number(s["R2"]),
             small(s["p"])]
        )  # fmt: skip
    yield table(header, rows)
    if first["corpora"] is None:
        return
    yield "By corpus instead, and mean distances by both:"
    kinds = list(first["corpora"]["mean_distance"])
    rows = []
    for seed, found in seeds.items():
        c = found["corpora"]
        means = [number(c["mean_distance"][kind]) for kind in kinds]
        rows.append([seed, number(c["R2"]), small(c["p"]), *means])
    yield table(["seed", "R²", "PERMANOVA p", *kinds], rows)
    if first["twins"]:
        rows = [[seed, *(str(t["place"]) for t in found["twins"])] for seed, found in seeds.items()]
        others = first["twins"][0]["others"]
        yield f"Rank of the same task on another corpus, by distance, among {others} others:"
        yield table(["seed", *(f"{t['of']} → {t['twin']}" for t in first["twins"])], rows)


def _agreement(seeds: Mapping[str, Any]) -> Iterator[str]:
    yield f"## Rank correlation with {DISTANCE} over pairs"
    names = list(next(iter(seeds.values()))["agreement"])
    rows = [
        [seed, *(number(found["agreement"][n]) for n in names)] for seed, found in seeds.items()
    ]
    yield table(["seed", *names], rows)


def _pairs(seeds: Mapping[str, Any]) -> Iterator[str]:
    if not next(iter(seeds.values()))["table"]:
        return
    yield f"## Spectral projection: each number (its null mean), * with p below {LEVEL}"
    rows = []
    for seed, found in seeds.items():
        for pair in found["table"]:
            cells = [_beside_null(pair, column) for column in COLUMNS]
            rows.append([seed, f"{pair['source']} → {pair['target']}", *cells])
    yield table(["seed", "source → target", *COLUMNS], rows)


def _beside_null(pair: Mapping[str, Any], column: str) -> str:
    p = pair["p"].get(column)
    star = "*" if p is not None and p < LEVEL else ""
    return f"{number(pair[column])}{star} ({number(pair['chance'].get(column))})"


def _inclusion(seeds: Mapping[str, Any]) -> Iterator[str]:
    first = next(iter(seeds.values()))["inclusion"]
    if first is None or not first["pairs"]:
        return
    yield "## Which includes which"
    rows = []
    for seed, found in seeds.items():
        for pair in found["inclusion"]["pairs"]:
            rows.append(
                [
                    seed,
                    f"{pair['source']} → {pair['target']}",
                    number(pair["score"]),
                    interval(pair["difference"], pair["low"], pair["high"]),
                    interval(pair["lead"], pair["lead_low"], pair["lead_high"]),
                    pair["direction"],
                ]
            )
    header = ["seed", "i → j", "score", "minus that of j → i [95%]"]
    yield table([*header, f"the same of {first['decided_by']}", "so i … j"], rows)
    edges = [
        f"Seed {seed}: "
        + escaped(", ".join(" ⊃ ".join(e) for e in found["inclusion"]["edges"]) or "none")
        for seed, found in seeds.items()
    ]
    yield "Edges of the graph of inclusions. " + ". ".join(edges) + "."


def _across(across: Mapping[str, Any] | None) -> Iterator[str]:
    if across is None:
        return
    yield "## The same task with another seed"
    kinds = list(next(iter(across.values())))
    rows = [[name, *(number(found[kind]) for kind in kinds)] for name, found in across.items()]
    yield table(["variable", *kinds], rows)


def _published(summary: Mapping[str, Any]) -> Iterator[str]:
    if summary["published"] is None:
        return
    yield f"## Beside {escaped(summary['published'])}"
    seeds = list(summary["seeds"])
    rows = [
        [c["says"], c["published"], *c["found"], c["rule"], c["verdict"]] for c in summary["claims"]
    ]
    header = ["claim", "published", *(f"seed {seed}" for seed in seeds), "a run agrees if", ""]
    yield table(header, rows)
    yield (
        "A run that neither agrees nor disagrees is undecided; mixed: the seeds say different "
        "things. Models, documents and training differ from what was published, so directions and "
        "orders are compared, not levels."
    )


def _notes(seeds: Mapping[str, Any]) -> Iterator[str]:
    notes = dict.fromkeys(
        f"- Seed {seed}: {escaped(note)}"
        for seed, found in seeds.items()
        for note in found["notes"]
    )
    if notes:
        yield "## Notes"
        yield "\n".join(notes)
