"""Scores of generated texts, against brute force."""

import itertools
import math

import numpy as np
import pytest

from jaxtask.finetune.evaluation.scores import (
    longest_common_subsequence,
    score,
    score_classes,
    score_values,
    words,
)


def subsequences(sequence):
    for size in range(len(sequence), -1, -1):
        yield from itertools.combinations(sequence, size)


@pytest.mark.parametrize("seed", range(20))
def test_longest_common_subsequence(seed):
    rng = np.random.default_rng(seed)
    first, second = (list(rng.choice(list("abc"), rng.integers(0, 9))) for _ in range(2))
    theirs = set(subsequences(second))
    brute = max(len(s) for s in subsequences(first) if s in theirs)
    assert longest_common_subsequence(first, second) == brute


def test_known_scores():
    # Common in order: the cat mat (3); in any order: the cat sat mat (4); 5 and 6 words.
    found = score(["The cat, mat: sat dog"], ["the cat sat on the mat."])
    assert found.exact == 0
    assert found.rouge_l == pytest.approx(2 * 3 / 11)
    assert found.token_f1 == pytest.approx(2 * 4 / 11)


def test_equal_and_empty_texts():
    assert score(["A  b.\n"], ["A b."]) == (1, 1, 1)
    assert score(["a B."], ["A b."]) == (0, 1, 1)
    assert score([""], ["x"]) == (0, 0, 0)
    assert score([""], [""]) == (1, 1, 1)
    assert score(["a", "b"], ["a", "c"]) == (0.5, 0.5, 0.5)
    assert all(math.isnan(x) for x in score([], []))
    with pytest.raises(ValueError, match="zip"):
        score(["a"], [])


def test_words_of_other_scripts():
    assert words("Élan vital—Straße 7!") == ["élan", "vital", "straße", "7"]


def test_classes_against_counting():
    """Each class's F1 from its own table of hits and misses."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        said, truth = rng.integers(0, 4, (2, 12))
        each = []
        for name in sorted({*said.tolist(), *truth.tolist()}):
            hit = np.sum((said == name) & (truth == name))
            wrong, missed = (
                np.sum((said == name) & (truth != name)),
                np.sum((said != name) & (truth == name)),
            )
            each.append(2 * hit / (2 * hit + wrong + missed))
        found = score_classes(said.tolist(), truth.tolist())
        assert found.accuracy == pytest.approx(np.mean(said == truth))
        assert found.macro_f1 == pytest.approx(np.mean(each))
    assert score_classes([1, 1, 0], [1, 0, 2]) == (1 / 3, pytest.approx(2 / 3 / 3))
    assert all(math.isnan(x) for x in score_classes([], []))


def test_values_against_numpy():
    rng = np.random.default_rng(1)
    said, truth = rng.standard_normal((2, 30))
    found = score_values(said.tolist(), truth.tolist())
    assert found.pearson == pytest.approx(np.corrcoef(said, truth)[0, 1])
    assert found.mse == pytest.approx(np.mean((said - truth) ** 2))
    constant = score_values([1.0, 1.0], [0.0, 2.0])
    assert math.isnan(constant.pearson)
    assert constant.mse == 1
    assert all(math.isnan(x) for x in score_values([], []))
