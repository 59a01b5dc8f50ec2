"""What was published before, and whether runs of several seeds agree with it: by fixed rules."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jaxtask.finetune.recipe import checks
from jaxtask.report import talk
from jaxtask.reproduce.settings import setting

COLUMNS = tuple(talk.COLUMNS)
"""What a table of pairs has of every source and target."""

DISTANCE = "grassmann_out"
"""What groups are said to lie apart by."""

LEVEL = 0.05
_ABOVE = "95% interval over layers above 0 (below: it disagrees)"
_INTERVAL = ("difference", "low", "high")
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
    """Findings of others on the same tasks.

    Attributes:
        cluster: Groups whose tasks are said to lie together by the Grassmann distance of output
            sides.
        alike: Variables that are said to give nearly what that distance gives.
        includes: Adapters of which the first is supposed to include the second.

    """

    name: str = setting(checks.text())
    cluster: tuple[str, ...] = setting(checks.texts(), ())
    alike: tuple[str, ...] = setting(checks.texts(), ())
    includes: tuple[tuple[str, str], ...] = setting(checks.pairs(), ())
    table: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Claim:
    """Something published, beside what each seed's run says.

    Attributes:
        rule: When a run agrees.
        found: A number of each seed, in words.
        agrees: Whether each seed's run agrees; None where it says too little.

    """

    says: str
    rule: str
    published: str
    found: tuple[str, ...]
    agrees: tuple[bool | None, ...]

    @property
    def verdict(self) -> str:
        """Over all seeds: what all of them say, or that they do not say the same."""
        words = {True: "agrees", False: "disagrees", None: "undecided"}
        said = {words[agrees] for agrees in self.agrees}
        return said.pop() if len(said) == 1 else "mixed"

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
            agrees.append((p < LEVEL or None) if mean > 0 else False)
        yield Claim(
            f"{group} tasks cluster ({DISTANCE})",
            f"mean silhouette of the group above 0 (else it disagrees), PERMANOVA p below {LEVEL}",
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
            tuple(map(number, values)),
            tuple(None if value is None else abs(value) >= STRONG for value in values),
        )


def _includes(published: Published, seeds: Sequence[Mapping[str, Any]]) -> Iterator[Claim]:
    for source, target in published.includes:
        found, agrees = [], []
        for one in seeds:
            pair = _pair(one["inclusion"]["pairs"], source, target)
            found.append(interval(*(pair[key] for key in _INTERVAL)))
            agrees.append(_above(pair["low"], pair["high"]))
        yield Claim(
            f"{source} includes {target} more than {target} includes {source}",
            f"score(i → j) − score(j → i): {_ABOVE}",
            "supposed",
            tuple(found),
            tuple(agrees),
        )


def _directions(published: Published, seeds: Sequence[Mapping[str, Any]]) -> Iterator[Claim]:
    """The two directions of a pair: which value is larger, raw and above the null mean."""
    rows = {(row.source, row.target): row for row in published.table}
    for (i, j), row in rows.items():
        other = rows.get((j, i))
        if other is None or i > j:
            continue
        for column in COLUMNS:
            there, back = getattr(row, column), getattr(other, column)
            if there is None or back is None or there == back:
                continue
            # Named so that the larger one comes first.
            source, target, high, low = (i, j, there, back) if there > back else (j, i, back, there)
            ours = [
                _pair([d for d in one["directions"] if d["column"] == column], source, target)
                for one in seeds
            ]
            says = f"{column}: {source}→{target} above {target}→{source}"
            yield _direction(says, f"{high:.3f} above {low:.3f}", ours)
            beyond = [d["beyond_chance"] for d in ours]
            if None not in beyond:
                yield _direction(f"the same of {column} minus its null mean", "not said", beyond)


def _direction(says: str, published: str, ours: Sequence[Mapping[str, Any]]) -> Claim:
    """A claim on differences."""
    found = tuple(interval(*(d[key] for key in _INTERVAL)) for d in ours)
    agrees = tuple(_above(d["low"], d["high"]) for d in ours)
    return Claim(says, f"the difference: {_ABOVE}", published, found, agrees)


def _above(low: float | None, high: float | None) -> bool | None:
    """Whether an interval lies above 0, or below; None for neither."""
    if low is None or high is None or low <= 0 <= high:
        return None
    return low > 0


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
            f"rank correlation of at least {STRONG} (not above 0: it disagrees)",
            "the table",
            tuple(map(number, values)),
            tuple(value >= STRONG or (None if value > 0 else False) for value in values),
        )


def _pair(rows: Sequence[Mapping[str, Any]], source: str, target: str) -> Mapping[str, Any]:
    return next(row for row in rows if (row["source"], row["target"]) == (source, target))


def number(value: float | None) -> str:
    """Three decimals, or a dash for none."""
    return "–" if value is None else f"{round(value, 3) + 0.0:.3f}"


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """A number and the interval that it lies in."""
    return f"{number(value)} [{number(low)}, {number(high)}]"
