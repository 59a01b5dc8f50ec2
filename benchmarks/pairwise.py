"""This engine against its peers: microseconds per cell, at one thread and at all cores.

A cell is one unordered pair of different tasks × one module. See README.md beside this file.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import command, cores, describe_machine, thread_environment
from benchmarks.peers import PEERS

_RESULTS = Path(__file__).parent / "results"
_QUICK = {"shapes": ["256x4"], "tasks": 6, "modules": 2, "repeats": 2}
# What a peer is compared with: the engine's time for the same work.
_ENGINE = {"grassmann": "jaxtask", "geodesic": "jaxtask", "cosine": "jaxtask_cosine"}


def main() -> None:
    arguments = _arguments()
    request = {
        "shapes": [
            {"d": d, "r": r, "tasks": arguments.tasks, "modules": arguments.modules}
            for d, r in map(_size, arguments.shapes)
        ],
        "peers": arguments.peers,
        "repeats": arguments.repeats,
    }
    report: dict[str, Any] = {
        "command": command("benchmarks.pairwise", sys.argv[1:]),
        "machine": describe_machine(),
        "repeats": arguments.repeats,
        "runs": [],
    }
    for threads in sorted({1, cores()}):
        print(f"{threads} thread{'s' * (threads > 1)}:", file=sys.stderr)
        report["runs"].append({"threads": threads, **_measured(request, threads)})
    print(table(report))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


def table(report: dict[str, Any]) -> str:
    """Everything worth a look, as Markdown."""
    machine = report["machine"]
    lines = [f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_average'][0]}"]
    for run in report["runs"]:
        for shape in run["shapes"]:
            lines += ["", *_one_table(run, shape)]
    return "\n".join(lines)


def _one_table(run: dict[str, Any], shape: dict[str, Any]) -> list[str]:
    process = run["process"]
    lines = [
        f"### d = {shape['d']}, r = {shape['r']}, {shape['tasks']} adapters × {shape['modules']} "
        f"modules; {run['threads']} thread(s); JAX on {process['jax_device']}, torch on "
        f"{process['torch_device']}",
        "",
        "| peer | quantity | µs/cell min | median | ratio to jaxtask | largest error | near copies "
        "| cells timed | cores busy | first call s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in shape["peers"].items():
        if row["status"] != "ok":
            lines.append(f"| {name} | {row['quantity']} | {row['status']} |||||||| ")
            continue
        engine = shape["peers"].get(_ENGINE[row["quantity"]], {})
        ours, theirs = (x.get("microseconds_per_cell_min") for x in (engine, row))
        ratio = f"{theirs / ours:.2f}×" if ours else "–"
        error = row["largest_error"]
        lines.append(
            f"| {name} | {row['quantity']} | {theirs:.1f} "
            f"| {row['microseconds_per_cell_median']:.1f} | {ratio} "
            f"| {'–' if error is None else f'{error:.0e}'} | {row['error_of_near_copies']:.0e} "
            f"| {row['cells_timed']}{', extrapolated' if row['extrapolated'] else ''} "
            f"| {row['cores_busy']:.1f} | {row['first_call_seconds']:.2f} |"
        )
    return lines


def _measured(request: dict[str, Any], threads: int) -> dict[str, Any]:
    """What a fresh process with so many threads finds."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        subprocess.run(
            [sys.executable, "-m", "benchmarks.measure", json.dumps(request), str(answer)],
            env=thread_environment(threads),
            check=True,
        )
        return json.loads(answer.read_text())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pairwise", description=__doc__)
    parser.add_argument(
        "--shapes",
        nargs="+",
        metavar="DxR",
        default=["1024x8", "1024x16", "4096x8", "4096x16"],
        help="width × rank of the (square) updates",
    )
    parser.add_argument("--tasks", type=int, default=32)
    parser.add_argument("--modules", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=_RESULTS / "pairwise.json")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does everything run?")
    arguments = parser.parse_args()
    if arguments.quick:
        vars(arguments).update(_QUICK)
    if arguments.tasks < 2:
        parser.error("--tasks must be at least 2")
    return arguments


def _size(text: str) -> tuple[int, int]:
    d, r = text.split("x")
    return int(d), int(r)


if __name__ == "__main__":
    main()
