"""Thousands of mutants of every kind of input: read, or refused in one line, within bounds.

python -m benchmarks.fuzz --mutants 2000 --out benchmarks/results/fuzz.json
python -m benchmarks.fuzz --kind conll --seed 0 --only 17     # one of them, with its traceback
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def main(arguments: Sequence[str]) -> int:
    """Hunt, and write down what was found; 1 if a mutant is neither read nor refused."""
    from fuzz.hunt import BYTES, LONGEST, SECONDS, hunt, replay
    from fuzz.kinds import KINDS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=2000)
    parser.add_argument("--kind", action="append", choices=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--only", type=int, help="read this one of the kind again, here")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    if given.only is not None:
        for name in given.kind or ():
            with tempfile.TemporaryDirectory() as folder:
                replay(name, given.seed, given.only, Path(folder))
        return 0

    kinds = {}
    failed = 0
    for name in given.kind or KINDS:
        start = time.perf_counter()
        mutants = given.mutants // KINDS[name].share
        tally = hunt({name: mutants}, given.seed, given.first, forked="template" in name)[name]
        (seconds, slowest), (more, largest) = tally.slowest, tally.largest
        kinds[name] = {
            **{what: tally.outcomes[what] for what in ("refused", "read", "failed")},
            "failures": [
                {"said": said, "times": len(numbers), "mutants": numbers[:5]}
                for said, numbers in tally.failures.items()
            ],
            "slowest_seconds": round(seconds, 3),
            "slowest_mutant": slowest,
            "most_memory_mb": round(more / 1e6, 1),
            "most_memory_mutant": largest,
            "seconds": round(time.perf_counter() - start, 1),
        }
        failed += tally.outcomes["failed"]
        shown = {k: v for k, v in kinds[name].items() if k != "failures"}
        print(name, json.dumps(shown), flush=True)
        for failure in kinds[name]["failures"]:
            print("   ", failure["mutants"], failure["times"], failure["said"], flush=True)
        if given.out is not None:
            record = {
                "command": machine.command("benchmarks.fuzz", arguments),
                "machine": machine.describe_machine(),
                "seed": given.seed,
                "first": given.first,
                "mutants_of_each_kind": given.mutants,
                "bounds": {"seconds": SECONDS, "bytes": BYTES, "characters": LONGEST},
                "kinds": kinds,
            }
            given.out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
