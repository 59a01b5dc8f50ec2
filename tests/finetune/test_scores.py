"""Scores of generated texts, against brute force."""

import itertools
import math

import numpy as np
import pytest

from jaxtask.finetune.scores import longest_common_subsequence, score, words


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
