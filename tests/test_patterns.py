"""Expressions of strangers: the meaning of Python's `re`, in bounded time."""

import re
import time

import pytest

from jaxtask.errors import AdapterError
from jaxtask.patterns import Patterns

NAMES = ["model.layers.0.self_attn.q_proj", "model.layers.11.mlp.down_proj", "lm_head", "q_proj"]
GOOD = [
    "q_proj", ".*q_proj", r"model\.layers\.\d+\.mlp\.(down|up)_proj", "^model.*proj", "q_proj|lm_head",
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
    ["(", "a{99999999999999999999}", "(" * 5000 + ")" * 5000, "*", "[z-a]", "a" * 300_000, "(?P<a"],
)
def test_no_expressions(pattern):
    with pytest.raises(AdapterError, match=r"^config: ") as found:
        Patterns(AdapterError).check(pattern, "config")
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 300


@pytest.mark.parametrize(
    "pattern", ["((a|[a-z_.0-9])+)+Z", "([a-z_.0-9]+)*!", "(.*)*(.*)*(.*)*(.*)*X", r"(\w+\.?)+ "]
)
def test_what_backtracks_without_end(pattern):
    """A time is no claim of speed here: without the bound it would be years."""
    patterns = Patterns(AdapterError, seconds=0.2)
    name = "model.layers.0.self_attn.q_proj" * 3
    began = time.monotonic()
    with pytest.raises(AdapterError, match=r"^key: takes too long"):
        for _ in range(1000):  # one budget for all
            patterns.fullmatch(pattern, name, "key")
            patterns.matches_end(pattern, name, "key")
    assert time.monotonic() - began < 60
