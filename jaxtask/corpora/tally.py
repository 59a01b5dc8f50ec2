"""Counting what a task has in a split, for provenance, tables and errors."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtask.errors import TaskError


@dataclass
class Tally:
    """Examples of one task in one split, and what became of the rest.

    Attributes:
        first: The first example, for reasons that have one.
        labels: Where each label comes first.

    """

    documents: int = 0
    examples: int = 0
    cut: int = 0
    size: int = 0
    longest: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def add(self, line: Mapping[str, Any], size: int, cut: bool = False) -> None:
        """Count an example."""
        self.examples += 1
        self.cut += cut
        self.size += size
        self.longest = max(self.longest, size)
        if "label" in line:
            self.labels.setdefault(line["label"], line["document_id"])

    def drop(self, reason: str, where: str = "") -> None:
        """Count what is no example, and remember the first place of its kind."""
        self.dropped[reason] += 1
        if where:
            self.first.setdefault(reason, where)

    def reasons(self) -> dict[str, int]:
        """How many were dropped, by reason and the first place."""
        return {
            f"{reason} (first: {self.first[reason]})" if reason in self.first else reason: number
            for reason, number in self.dropped.most_common()
        }

    def counts(self) -> dict[str, Any]:
        """The numbers, as `task.json` has them."""
        return {
            "documents": self.documents,
            "examples": self.examples,
            "cut": self.cut,
            "length": {"mean": round(self.size / self.examples, 1), "max": self.longest},
            "dropped": self.reasons(),
        }


def check_not_empty(name: str, tallies: Mapping[str, Tally]) -> None:
    """Check that every split has an example.

    Raises:
        TaskError: One has none; says what was dropped and why.

    """
    for split, tally in tallies.items():
        if not tally.examples:
            reasons = "; ".join(f"{n} dropped: {why}" for why, n in tally.reasons().items())
            raise TaskError(
                f"task {name!r} has no example in {split} "
                f"({tally.documents} documents; {reasons or 'none dropped'})"
            )


def label_set(name: str, declared: Sequence[str] | None, tallies: Mapping[str, Tally]) -> list[str]:
    """The declared labels, or those of the training examples: in order, numbers by their value.

    Raises:
        TaskError: There are fewer than two, or an example has another label.

    """
    labels = list(declared or tallies["train"].labels)
    if not declared:
        whole = all(re.fullmatch(r"-?[0-9]{1,18}", label) for label in labels)
        labels.sort(key=int if whole else None)
    if len(set(labels)) < 2:
        raise TaskError(f"task {name!r}: a label set of {labels}, expected at least two labels")
    known = set(labels)
    for split, tally in tallies.items():
        for label, where in tally.labels.items():
            if label not in known:
                raise TaskError(
                    f"task {name!r}, {split}, {where}: the label {label[:40]!r} is outside the set "
                    f"({', '.join(x[:40] for x in labels[:12])}{' …' if len(labels) > 12 else ''})"
                )
    return labels
