"""Expressions of strangers: the meaning of Python's `re`, in bounded time."""

import re
import time

import pytest

from jaxtask.errors import AdapterError
from jaxtask.patterns import Patterns

NAMES = ["model.layers.0.self_attn.q_proj", "model.layers.11.mlp.down_proj", "lm_head", "q_proj"]
GOOD = [
    "q_proj", ".*q_proj", r"model\.layers\.\d+\.mlp\.(down|up)_proj", "^model.*proj",
    "q_proj|lm_head",
    r"^(?!.*mlp).*_proj", r"^(model(?=\.).*\.(q_proj|k_proj))$", "[qk]_proj", "(?P<a>q)_proj", "",
    r".*\.(?:0|1{2})\..*",
]  # fmt: skip


@pytest.mark.parametrize("pattern", GOOD)
def test_the_same_as_python(pattern):
    patterns = Patterns(AdapterError)
    for name in NAMES:
        assert patterns.fullmatch(pattern, name, "p") == bool(re.fullmatch(pattern, name))
        expected = bool(re.match(rf"(.*\.)?({pattern})$", name))
        assert patterns.matches_end(pattern, name, "p") == expected


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        "a{99999999999999999999}",
        "(" * 5000 + ")" * 5000,
        "*",
        "[z-a]",
        "a" * 300_000,
        "(?P<a",
        r"\d{1000000}",
        "((a{1000}){1000}){1000}",
        r"\d{4294967294}",
    ],
)
def test_no_expressions(pattern):
    with pytest.raises(AdapterError, match=r"^config: ") as found:
        Patterns(AdapterError).check(pattern, "config")
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 300


@pytest.mark.parametrize("pattern", ["(.|..)+[A-Z]", r"(?:\w|\w\w|\.)+\W\W"])
def test_what_backtracks_without_end(pattern):
    """The time is no claim of speed: without the bound it would be years."""
    patterns = Patterns(AdapterError, seconds=0.1)
    began = time.process_time()
    with pytest.raises(AdapterError, match=r"^key: takes too long"):
        patterns.fullmatch(pattern, "model.layers.0.self_attn.q_proj" * 3, "key")
    assert time.process_time() - began < 60


def test_keys_are_checked_as_they_are_matched():
    for key in ("(?i)q_proj", "(?x)q#c"):
        with pytest.raises(AdapterError):
            Patterns(AdapterError).check_end(key, "key")
    Patterns(AdapterError).check_end("[[q]k]_proj", "key")  # no warning


def test_all_matches_have_one_budget():
    patterns = Patterns(AdapterError, seconds=0.0)
    with pytest.raises(AdapterError, match=r"^key: this and .* take too long"):
        patterns.check("compiling.counts(too)?", "key")
    patterns = Patterns(AdapterError, seconds=0.1)
    slow = r"((a|[a-z_.0-9])+)+[A-Z]"  # takes long, and ends
    with pytest.raises(AdapterError, match=r"takes? too long"):
        [patterns.fullmatch(slow, f"model.layers.{n}.self_attn.q" * 3, "key") for n in range(1000)]


def test_what_was_asked_before_is_not_matched_again():
    patterns = Patterns(AdapterError)
    asked = [("q", "a.q"), ("a.q", "a.q"), (r"(.*\.)?(q)$", "a.q\n")]
    for _ in range(2):
        assert [patterns.fullmatch(*one, "key") for one in asked] == [False, True, False]
        assert [patterns.matches_end(*one, "key") for one in asked] == [True, True, True]
        patterns._left = 0  # nothing new could be asked
    with pytest.raises(AdapterError, match="take too long"):
        patterns.fullmatch("q", "q", "key")
