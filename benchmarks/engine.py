"""The engine by itself: kinds of banks and metrics beside each other, and growth with the tasks.

One process, all cores, a fresh bank in main memory for each call, and the least of several calls.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import jaxtask as jt
from benchmarks.machine import command, describe_machine, describe_process
from benchmarks.memory import PeakMemory

_RESULTS = Path(__file__).parent / "results"
_DRIFT = 0.03
"""Of a factor A that started as all others did, relative to its norm."""
_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "grassmann, out side": ("random", {"metrics": ["grassmann"], "sides": ["out"]}),
    "grassmann, in side": ("random", {"metrics": ["grassmann"], "sides": ["in"]}),
    "grassmann, in side, shared A": ("shared", {"metrics": ["grassmann"], "sides": ["in"]}),
    "grassmann, both sides": ("random", {"metrics": ["grassmann"]}),
    "grassmann, both sides, shared A": ("shared", {"metrics": ["grassmann"]}),
    "all metrics, both sides": ("random", {}),
    "all metrics, both sides, shared A": ("shared", {}),
}
_FULL = {"d": 4096, "r": 16, "tasks": 64, "modules": 24, "growth": 4, "most": 512, "repeats": 5}
_QUICK = {"d": 64, "r": 4, "tasks": 6, "modules": 2, "growth": 2, "most": 64, "repeats": 2}

Factors = list[list[tuple[np.ndarray, np.ndarray]]]


def factors(d: int, r: int, tasks: int, modules: int, kind: str) -> Factors:
    """[tasks][modules] of B [d, r] and A [r, d], float32 and random."""
    rng = np.random.default_rng(0)
    first = rng.standard_normal((modules, r, d), dtype=np.float32)

    def update(module: int) -> tuple[np.ndarray, np.ndarray]:
        B = rng.standard_normal((d, r), dtype=np.float32)
        A = rng.standard_normal((r, d), dtype=np.float32)
        return B, first[module] + np.float32(_DRIFT) * A if kind == "shared" else A

    return [[update(module) for module in range(modules)] for _ in range(tasks)]


def bank_of(every: Factors) -> jt.AdapterBank:
    """Names and arrays only: nothing is copied."""
    return jt.AdapterBank.from_factors(
        {
            f"task{t:03d}": {f"layers.{m}.self_attn.q_proj": x for m, x in enumerate(modules)}
            for t, modules in enumerate(every)
        }
    )


def seconds(every: Factors, options: dict[str, Any]) -> float:
    """Of one comparison of a fresh bank."""
    bank = bank_of(every)
    start = time.perf_counter()
    jt.compare(bank, **options)
    return time.perf_counter() - start


def kinds(size: dict[str, int]) -> list[dict[str, Any]]:
    """Microseconds per cell of each kind, in turns, and over those of `grassmann` on its sides."""
    shape = size["d"], size["r"], size["tasks"], size["modules"]
    banks = {kind: factors(*shape, kind) for kind in ("random", "shared")}
    spent: dict[str, list[float]] = {name: [] for name in _KINDS}
    for _ in range(1 + size["repeats"]):  # the first compiles
        for name, (kind, options) in _KINDS.items():
            spent[name].append(seconds(banks[kind], options))
    cells = size["modules"] * size["tasks"] * (size["tasks"] - 1) // 2
    rows = []
    for name, times in spent.items():
        _, options = _KINDS[name]
        sides = "both sides" if "sides" not in options else f"{options['sides'][0]} side"
        least, base = min(times[1:]), min(spent[f"grassmann, {sides}"][1:])
        rows.append(
            {
                "what": name,
                "microseconds_per_cell": 1e6 * least / cells,
                "over_grassmann_of_random": least / base,
                "seconds": times,
            }
        )
    return rows


def growth(size: dict[str, int]) -> dict[str, Any]:
    """Seconds and memory from 16 tasks on, and the fit a·N + b·N² + c, with each one's own b."""
    every = factors(size["d"], size["r"], size["most"], size["growth"], "random")
    options = _KINDS["grassmann, out side"][1]
    seconds(every[:16], options)
    rows = []
    tasks = 16
    while tasks <= size["most"]:
        some = every[:tasks]
        times = [seconds(some, options) for _ in range(1 + size["repeats"])]
        held = sum(B.nbytes + A.nbytes for modules in every for B, A in modules)
        rows.append(
            {
                "tasks": tasks,
                "first_seconds": times[0],
                "seconds": min(times[1:]),
                "gigabytes_beside_bank": (_peak(some, options) - held) / 1e9,
            }
        )
        print(rows[-1], flush=True)
        tasks *= 2
    N = np.array([row["tasks"] for row in rows], float)
    t = np.array([row["seconds"] for row in rows])
    terms = np.stack([np.ones_like(N), N, N**2], axis=1)
    c, a, b = np.linalg.lstsq(terms / t[:, None], np.ones_like(t), rcond=None)[0]
    for row, n, took in zip(rows, N, t, strict=True):
        row["microseconds_per_cell"] = 2e6 * took / (n * (n - 1)) / size["growth"]
        row["over_fit"] = took / (c + a * n + b * n**2)
        row["b"] = (took - c - a * n) / n**2
    return {"modules": size["growth"], "a": a, "b": b, "c": c, "rows": rows}


def _peak(every: Factors, options: dict[str, Any]) -> int:
    """Most bytes of anonymous memory while they are compared."""
    with PeakMemory() as memory:
        seconds(every, options)
    return memory.peak


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does everything run?")
    parser.add_argument("--out", type=Path, default=_RESULTS / "engine-cpu.json")
    arguments = parser.parse_args()
    size = _QUICK if arguments.quick else _FULL
    report = {
        "command": command("benchmarks.engine", sys.argv[1:]),
        "machine": describe_machine(),
        "process": describe_process(),
        **size,
        "growth": growth(size),
        "kinds": kinds(size),
    }
    for row in report["kinds"]:
        print(
            f"{row['what']:<36}{row['microseconds_per_cell']:8.1f} µs/cell "
            f"{row['over_grassmann_of_random']:6.2f}×",
            flush=True,
        )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
