"""What was published before, and whether runs of several seeds agree with it: by fixed rules."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jaxtask.finetune import checks
from jaxtask.reproduce.settings import setting

COLUMNS = ("spectral_l1", "rec", "entropy_source", "entropy_projected")
"""What a table of pairs has of every source and target."""

DISTANCE = "grassmann_out"
"""What groups are said to lie apart by."""

LEVEL = 0.05
STRONG = 0.8


@dataclass(frozen=True)
class Row:
    """One pair of a published table; null for what it does not have."""

    source: str = setting(checks.text())
    target: str = setting(checks.text())
    spectral_l1: float | None = setting(checks.optional(checks.number(0)), None)
    rec: float | None = setting(checks.optional(checks.number(0, 1)), None)
    entropy_source: float | None = setting(checks.optional(checks.number(0, 1)), None)
    entropy_projected: float | None = setting(checks.optional(checks.number(0, 1)), None)


@dataclass(frozen=True)
class Published:
    """Findings of others on the same tasks."""

    name: str = setting(checks.text())
    cluster: tuple[str, ...] = setting(checks.texts(), ())
    """Groups whose tasks are said to lie together by the Grassmann distance of output sides."""
    alike: tuple[str, ...] = setting(checks.texts(), ())
    """Variables that are said to give nearly what that distance gives."""
    includes: tuple[tuple[str, str], ...] = setting(checks.pairs(), ())
    """Adapters of which the first is supposed to include the second."""
    table: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Claim:
    """Something published, beside what each seed's run says."""

    says: str
    rule: str
    """When a run agrees."""
    published: str
    found: tuple[str, ...]
    """A number of each seed, in words."""
    agrees: tuple[bool, ...]

    @property
    def verdict(self) -> str:
        """Over all seeds."""
        if all(self.agrees):
            return "agrees"
        return "mixed" if any(self.agrees) else "disagrees"

    def json(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {**asdict(self), "verdict": self.verdict}


def claims(published: Published, seeds: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Everything published that the runs have numbers on.

    Args:
        published: What is claimed.
        seeds: The numbers of every seed; see `jaxtask.reproduce.numbers`.

    """
    return [
        *_clusters(published, seeds),
        *_alike(published, seeds),
        *_includes(published, seeds),
        *_directions(published, seeds),
        *_orders(published, seeds),
    ]


def _clusters(published: Published, seeds: Sequence[Mapping[str, Any]]) -> Iterator[Claim]:
    for group in published.cluster:
        found, agrees = [], []
        for one in seeds:
            apart = one["separation"]
            mean, p = apart["groups"][group], apart["p"]
            found.append(f"silhouette {mean:.3f}, p = {p:.3g}")
            agrees.append(mean > 0 and p < LEVEL)
        yield Claim(
            f"{group} tasks cluster ({DISTANCE})",
            f"mean silhouette of the group above 0, and PERMANOVA p below {LEVEL}",
            "yes, in a figure",
            tuple(found),
            tuple(agrees),
        )


def _alike(published: Published, seeds: Sequence[Mapping[str, Any]]) -> Iterator[Claim]:
    for variable in published.alike:
        values = [one["agreement"][variable] for one in seeds]
        yield Claim(
            f"{variable} gives very close results to {DISTANCE}",
            f"rank correlation over pairs of at least {STRONG} in size",
            "in words",
            tuple(f"{value:.3f}" for value in values),
            tuple(abs(value) >= STRONG for value in values),
        )


def _includes(published: Published, seeds: Sequence[Mapping[str, Any]]) -> Iterator[Claim]:
    for source, target in published.includes:
        found, agrees = [], []
        for one in seeds:
            pair = next(
                p
                for p in one["inclusion"]["pairs"]
                if (p["source"], p["target"]) == (source, target)
            )
            low, high = pair["low"], pair["high"]
            found.append(f"{_text(pair['difference'])} [{_text(low)}, {_text(high)}]")
            agrees.append(low is not None and low > 0)
        yield Claim(
            f"{source} includes {target} more than {target} includes {source}",
            "the 95% interval of score(i → j) − score(j → i) lies above 0",
            "supposed",
            tuple(found),
            tuple(agrees),
        )


def _directions(published: Published, seeds: Sequence[Mapping[str, Any]]) -> Iterator[Claim]:
    """The two directions of a pair: which value is larger, as it is and beyond chance."""
    rows = {(row.source, row.target): row for row in published.table}
    for (i, j), row in rows.items():
        other = rows.get((j, i))
        if other is None or i > j:
            continue
        for column in COLUMNS:
            there, back = getattr(row, column), getattr(other, column)
            if there is None or back is None:
                continue
            # Named so that the larger one comes first.
            source, target, high, low = (i, j, there, back) if there > back else (j, i, back, there)
            tables = [one["table"] for one in seeds]
            ways = [(_pair(t, source, target), _pair(t, target, source)) for t in tables]
            yield Claim(
                f"{column}: {source}→{target} above {target}→{source}",
                "the same one is larger",
                f"{high:.3f} above {low:.3f}",
                tuple(f"{_text(a[column])}, {_text(b[column])}" for a, b in ways),
                tuple(a[column] > b[column] for a, b in ways),
            )
            if any(row["chance"].get(column) is None for way in ways for row in way):
                continue
            beyond = [tuple(row[column] - row["chance"][column] for row in way) for way in ways]
            yield Claim(
                f"the same of {column} minus its chance level",
                "the same one is larger",
                "without chance levels",
                tuple(f"{_text(a)}, {_text(b)}" for a, b in beyond),
                tuple(a > b for a, b in beyond),
            )


def _orders(published: Published, seeds: Sequence[Mapping[str, Any]]) -> Iterator[Claim]:
    """A column's rows from small to large."""
    from scipy.stats import spearmanr

    for column in COLUMNS:
        rows = [row for row in published.table if getattr(row, column) is not None]
        if len(rows) < 4:
            continue
        theirs = [getattr(row, column) for row in rows]
        ours = [
            [_pair(one["table"], row.source, row.target)[column] for row in rows] for one in seeds
        ]
        values = [float(spearmanr(theirs, own).statistic) for own in ours]
        yield Claim(
            f"{column}: the order of the table's {len(rows)} rows",
            f"rank correlation of at least {STRONG}",
            "the table",
            tuple(f"{value:.3f}" for value in values),
            tuple(value >= STRONG for value in values),
        )


def _pair(rows: Sequence[Mapping[str, Any]], source: str, target: str) -> Mapping[str, Any]:
    return next(row for row in rows if (row["source"], row["target"]) == (source, target))


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
