"""Some mutants of every kind of input; `python -m benchmarks.fuzz` reads thousands."""

import random
import sys

import pytest

from fuzz import mutate
from fuzz.hunt import hunt
from fuzz.kinds import FAULTS, KINDS

# Rendering one template starts a process, and analysing a result takes long.
FEW = {"chat template": 1, "result, analyzed": 1}
MOST = 3
linux = pytest.mark.skipif(sys.platform != "linux", reason="what a process takes is in /proc")


@pytest.mark.process
@linux
def test_what_breaks_the_rule_is_found():
    tallies = hunt(dict.fromkeys(FAULTS, 1), first=3, seconds=1.5, most=5 * 10**7)
    found = {name: "; ".join(tally.failures) for name, tally in tallies.items()}
    for name, what in {
        "_raise": "KeyError: 'x' @ kinds.py:",
        "_hang": "hangs for 1.5 seconds",
        "_die": "ends the process with -11",
        "_grow": "takes more than 0.05 GB",
        "_write": "writes open /",
        "_leave": "refused, and leaves half",
        "_tell": "no single line: 'two\\nlines'",
        "_tell_all": "at least 1,000 characters: 'xxx",
    }.items():
        assert what in found[name]


@pytest.mark.parametrize("aware", [mutate.of_json, mutate.of_yaml, mutate.of_lines])
def test_mutants_are_the_same_again_and_differ(aware):
    good = '{"a": [1, {"b": "c"}], "d": null}'
    once, again = ([aware(good, random.Random(n)) for n in range(50)] for _ in range(2))
    assert once == again
    assert len(set(once)) > 25


@pytest.mark.process
@pytest.mark.slow
@linux
def test_every_kind():
    # Other tests run beside it; the benchmark, alone, allows five seconds.
    tallies = hunt({name: FEW.get(name, MOST) for name in KINDS}, seconds=60)
    failures = {name: tally.failures for name, tally in tallies.items() if tally.failures}
    assert not failures, "python -m benchmarks.fuzz --kind KIND --only N shows one"
    assert all(tally.outcomes.total() == FEW.get(n, MOST) for n, tally in tallies.items())
    assert sum(tally.outcomes["refused"] for tally in tallies.values()) > 40
