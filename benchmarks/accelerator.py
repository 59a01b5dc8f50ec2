"""Everything worth knowing of one machine's accelerator, in one command that needs no network.

Spot checks of the kernels, rates of single steps, the engine on whole banks, and its time by stage.
Exits with 1 if a check fails, after writing what it found.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.checks import check_kernels
from benchmarks.machine import command, describe_machine, describe_process
from benchmarks.measure import measure
from benchmarks.problem import Shape
from benchmarks.rates import factor_rate, gram_rate, singular_values_rate
from benchmarks.stages import stages

_RESULTS = Path(__file__).parent / "results"
_RANKS = (8, 16, 32, 64)
_FULL: dict[str, Any] = {
    "d": 4096,
    "columns": 8192,
    "entries": 1 << 26,
    "factors": 256,
    "chunks": (8, 64, 256),
    "shapes": [Shape(d, r, 32, 24) for d in (1024, 4096) for r in (8, 16)],
    "repeats": 5,
}
_SMALL: dict[str, Any] = {
    "d": 512,
    "columns": 256,
    "entries": 1 << 16,
    "factors": 8,
    "chunks": (4,),
    "shapes": [Shape(256, 8, 6, 2)],
    "repeats": 2,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accelerator", description=__doc__)
    parser.add_argument("--out", type=Path, default=_RESULTS / "accelerator.json")
    parser.add_argument("--small", action="store_true", help="tiny sizes, for a CPU")
    arguments = parser.parse_args()
    sizes = _SMALL if arguments.small else _FULL
    report: dict[str, Any] = {
        "command": command("benchmarks.accelerator", sys.argv[1:]),
        "machine": describe_machine(),
        "process": describe_process(),
        "checks": [],
        "rates": [],
        "engine": [],
        "stages": [],
    }

    def found(section: str, what: dict[str, Any]) -> None:
        # Written as it goes: a lease may end in the middle.
        report[section].append(what)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")
        print(section, {k: v for k, v in what.items() if k != "peers"}, flush=True)

    for check in check_kernels(sizes["d"]):
        found("checks", check)
    for shape in sizes["shapes"]:
        engine = measure(shape, ["jaxtask", "jaxtask_cosine"], sizes["repeats"])
        found("engine", engine)
        for name, row in engine["peers"].items():
            print(f"  {name}: {row['microseconds_per_cell_min']:.2f} µs/cell")
        found("stages", {**vars(shape), "microseconds_per_cell": stages(shape)})
    for n in _RANKS:
        found("rates", gram_rate(sizes["d"], n, sizes["columns"]))
        for chunk in sizes["chunks"]:
            found("rates", factor_rate(sizes["d"], n, sizes["factors"], chunk))
        found("rates", singular_values_rate(n, sizes["entries"]))
    if not all(check["holds"] for check in report["checks"]):
        sys.exit("a check failed")


if __name__ == "__main__":
    main()
