"""Everything worth knowing of one machine's accelerator, in one command that needs no network.

Spot checks of the kernels; rates of single steps beside XLA's own and torch's, and what the device
can do at most; the engine on whole banks, beside torch, and its time by stage; a sweep of the
Lots-of-LoRAs shape out of device memory.
Exits with 1 if a check fails, after writing what it found.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
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
Rows = Iterator[dict[str, Any]]

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
    parser.add_argument("--only", nargs="+", choices=_SECTIONS, default=list(_SECTIONS))
    arguments = parser.parse_args()
    sizes = _SMALL if arguments.small else _FULL
    report: dict[str, Any] = {
        "command": command("benchmarks.accelerator", sys.argv[1:]),
        "machine": describe_machine(),
        "process": describe_process(),
    }
    for name in (name for name in _SECTIONS if name in arguments.only):
        report[name] = []
        for row in _SECTIONS[name](sizes):
            # Written as it goes: a lease may end in the middle.
            report[name].append(row)
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(report, indent=1) + "\n")
            print(name, {k: v for k, v in row.items() if k != "peers"}, flush=True)
            for peer, timed in row.get("peers", {}).items():
                if timed["status"] == "ok":
                    print(f"  {peer}: {timed['microseconds_per_cell_min']:.2f} µs/cell")
    if not all(check["holds"] for check in report.get("checks", [])):
        sys.exit("a check failed")


def _checks(sizes: dict[str, Any]) -> Rows:
    yield from check_kernels(sizes["d"])


def _rates(sizes: dict[str, Any]) -> Rows:
    yield ceilings(sizes["size"], sizes["entries"])
    for n in _RANKS:
        for dtype in ("float32", "float64")[: 1 if jax.default_backend() == "tpu" else 2]:
            yield singular_values_rate(n, dtype, sizes["entries"], sizes["peer_entries"])
        yield gram_rate(sizes["d"], n, sizes["columns"])
        yield bases_rate(sizes["d"], n, sizes["factors"])
        for chunk in sizes["chunks"]:
            yield factor_rate(sizes["d"], n, sizes["factors"], chunk)


def _sweep(sizes: dict[str, Any]) -> Rows:
    yield sweep(sizes["resident"])


def _engine(sizes: dict[str, Any]) -> Rows:
    for shape in sizes["shapes"]:
        yield measure(shape, ["jaxtask", "jaxtask_cosine", "torch"], sizes["repeats"])


def _stages(sizes: dict[str, Any]) -> Rows:
    for shape in sizes["shapes"]:
        yield {**vars(shape), "microseconds_per_cell": stages(shape)}


_SECTIONS: dict[str, Callable[[dict[str, Any]], Rows]] = {
    "checks": _checks,
    "rates": _rates,
    "sweep": _sweep,
    "engine": _engine,
    "stages": _stages,
}


if __name__ == "__main__":
    main()
