"""How what a model says compares with what is right: texts, classes and values.

Of a generated text: whether it is the target, or how much of it is there. Words are runs of letters
and digits in lower case; punctuation does not count.
"""

import math
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Text:
    """What one example's prompt led to.

    Attributes:
        source: Where the example is from: ``file, line N``.
        before: Generated before training.

    """

    source: str
    instruction: str
    text: str
    target: str
    before: str
    after: str


@dataclass(frozen=True)
class Scored:
    """What one task's model says on dev examples, before training and after.

    Attributes:
        before: Means by name, see `score`, `score_classes` and `score_values`.

    """

    examples: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    texts: tuple[Text, ...] = ()

    def json(self) -> dict[str, Any]:
        """The numbers as JSON-able data; None for what is undefined."""
        sides = {"before": self.before, "after": self.after}
        numbers = {
            side: {name: value if math.isfinite(value) else None for name, value in own.items()}
            for side, own in sides.items()
        }
        return {"examples": self.examples, **numbers}


class Scores(NamedTuple):
    """Means over texts, each from 0 to 1.

    Attributes:
        exact: The share of texts that are equal but for white space.
        rouge_l: F1 of the longest common subsequence of words.
        token_f1: F1 of the words in common, in any order.

    """

    exact: float
    rouge_l: float
    token_f1: float


def score(generated: Sequence[str], targets: Sequence[str]) -> Scores:
    """Scores of texts against their targets; of no texts at all, NaN."""
    pairs = list(zip(generated, targets, strict=True))
    if not pairs:
        return Scores(*[float("nan")] * 3)
    sums = [sum(values) for values in zip(*(_one(*pair) for pair in pairs), strict=True)]
    return Scores(*(total / len(pairs) for total in sums))


class ClassScores(NamedTuple):
    """Of predicted classes, each from 0 to 1.

    Attributes:
        macro_f1: The mean, over classes that were right or predicted somewhere, of each one's F1.

    """

    accuracy: float
    macro_f1: float


def score_classes(predicted: Sequence[int], right: Sequence[int]) -> ClassScores:
    """Scores of classes; of none at all, NaN."""
    pairs = list(zip(predicted, right, strict=True))
    if not pairs:
        return ClassScores(math.nan, math.nan)
    mine, theirs = Counter(predicted), Counter(right)
    hits = Counter(guess for guess, truth in pairs if guess == truth)
    each = [_f1(hits[name], mine[name], theirs[name]) for name in mine.keys() | theirs.keys()]
    return ClassScores(hits.total() / len(pairs), sum(each) / len(each))


class ValueScores(NamedTuple):
    """Of predicted values.

    Attributes:
        pearson: Correlation, from −1 to 1; NaN where either side does not vary.
        mse: Mean squared error.

    """

    pearson: float
    mse: float


def score_values(predicted: Sequence[float], right: Sequence[float]) -> ValueScores:
    """Scores of values; of none at all, NaN."""
    pairs = list(zip(predicted, right, strict=True))
    if not pairs:
        return ValueScores(math.nan, math.nan)
    error = math.fsum((guess - truth) ** 2 for guess, truth in pairs) / len(pairs)
    varies = len(set(predicted)) > 1 and len(set(right)) > 1
    return ValueScores(statistics.correlation(predicted, right) if varies else math.nan, error)


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
