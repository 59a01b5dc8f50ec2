"""Everything worth knowing of one machine's accelerator, in one command that needs no network.

Spot checks of the kernels; rates of single steps beside XLA's own and torch's, and what the device
can do at most; the engine on whole banks, beside torch, and its time by stage; a sweep of the
Lots-of-LoRAs shape out of device memory.
Exits with 1 if a check fails, after writing what it found.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import jax

from benchmarks.checks import check_kernels
from benchmarks.machine import command, describe_machine, describe_process
from benchmarks.measure import measure
from benchmarks.problem import Shape
from benchmarks.rates import (
    bases_rate,
    ceilings,
    factor_rate,
    gram_rate,
    singular_values_rate,
)
from benchmarks.resident import Resident, sweep
from benchmarks.stages import stages

_RESULTS = Path(__file__).parent / "results"
_RANKS = (8, 16, 32, 64)
_FULL: dict[str, Any] = {
    "d": 4096,
    "columns": 8192,
    "size": 8192,
    "entries": 1 << 28,
    "peer_entries": 1 << 22,
    "factors": 256,
    "chunks": (8, 64, 256),
    "shapes": [Shape(d, r, 32, 24) for d in (1024, 4096) for r in (8, 16)],
    "repeats": 5,
    "resident": Resident(),
}
_SMALL: dict[str, Any] = {
    "d": 512,
    "columns": 256,
    "size": 256,
    "entries": 1 << 14,
    "peer_entries": 1 << 12,
    "factors": 8,
    "chunks": (4,),
    "shapes": [Shape(256, 8, 6, 2)],
    "repeats": 2,
    "resident": Resident(
        tasks=12, layers=1, r=4, d_in=64, d_out={"q_proj": 64, "v_proj": 32}, pair_chunk=32
    ),
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
        "sweep": [],
    }

    def found(section: str, what: dict[str, Any]) -> None:
        # Written as it goes: a lease may end in the middle.
        report[section].append(what)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")
        print(section, {k: v for k, v in what.items() if k != "peers"}, flush=True)

    for check in check_kernels(sizes["d"]):
        found("checks", check)
    found("rates", ceilings(sizes["size"], sizes["entries"]))
    for n in _RANKS:
        for dtype in ("float32", "float64")[: 1 if jax.default_backend() == "tpu" else 2]:
            found("rates", singular_values_rate(n, dtype, sizes["entries"], sizes["peer_entries"]))
        found("rates", gram_rate(sizes["d"], n, sizes["columns"]))
        found("rates", bases_rate(sizes["d"], n, sizes["factors"]))
        for chunk in sizes["chunks"]:
            found("rates", factor_rate(sizes["d"], n, sizes["factors"], chunk))
    found("sweep", sweep(sizes["resident"]))
    for shape in sizes["shapes"]:
        engine = measure(shape, ["jaxtask", "jaxtask_cosine", "torch"], sizes["repeats"])
        found("engine", engine)
        for name, row in engine["peers"].items():
            if row["status"] == "ok":
                print(f"  {name}: {row['microseconds_per_cell_min']:.2f} µs/cell")
        found("stages", {**vars(shape), "microseconds_per_cell": stages(shape)})
    if not all(check["holds"] for check in report["checks"]):
        sys.exit("a check failed")


if __name__ == "__main__":
    main()
