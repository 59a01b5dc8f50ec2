"""How a generated text compares with the target: equal, or how much of it is there.

Words are runs of letters and digits in lower case; punctuation does not count.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple


class Scores(NamedTuple):
    """Means over texts, each from 0 to 1."""

    exact: float
    """The share of texts that are equal but for white space."""
    rouge_l: float
    """F1 of the longest common subsequence of words."""
    token_f1: float
    """F1 of the words in common, in any order."""


def score(generated: Sequence[str], targets: Sequence[str]) -> Scores:
    """Scores of texts against their targets; of no texts at all, NaN."""
    pairs = list(zip(generated, targets, strict=True))
    if not pairs:
        return Scores(*[float("nan")] * 3)
    sums = [sum(values) for values in zip(*(_one(*pair) for pair in pairs), strict=True)]
    return Scores(*(total / len(pairs) for total in sums))


def _one(generated: str, target: str) -> tuple[float, float, float]:
    mine, theirs = words(generated), words(target)
    common = sum((Counter(mine) & Counter(theirs)).values())
    subsequence = longest_common_subsequence(mine, theirs)
    sizes = len(mine), len(theirs)
    return float(generated.split() == target.split()), _f1(subsequence, *sizes), _f1(common, *sizes)


def words(text: str) -> list[str]:
    """The words of a text."""
    return re.findall(r"\w+", text.lower())


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Its length. Time grows with the product of both lengths, memory with the second."""
    row = [0] * (len(second) + 1)
    for a in first:
        diagonal = 0
        for n, b in enumerate(second, 1):
            above = row[n]
            row[n] = diagonal + 1 if a == b else max(above, row[n - 1])
            diagonal = above
    return row[-1]


def _f1(common: int, mine: int, theirs: int) -> float:
    """The harmonic mean of common/mine and common/theirs; 1 if both texts have no words."""
    return 2 * common / (mine + theirs) if mine + theirs else 1.0
