"""Singular values of small matrices, values only, against LAPACK on the same inputs.

Per thread and side by side in one process, which is started once for each level of instructions and
once more for all cores. See README.md beside this file.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import (
    command,
    cores,
    describe_machine,
    describe_process,
    installed,
    thread_environment,
)
from jaxtask_kernels import native, singular_values
from tests.oracles import singular_values as in_80_bits

_RESULTS = Path(__file__).parent / "results"
_SIZES = (4, 8, 16, 32, 64)
_LEVELS = ("avx2", "baseline")
"""Lower ones than the best, values of JAXTASK_NATIVE: measured on random matrices alone."""
_ENTRIES = {"full": 1 << 20, "quick": 1 << 14}
_REPEATS = {"full": 5, "quick": 1}
_CHECKED = 64
"""Matrices of each kind that errors are taken of."""


# --------------------------------------------------------------------------- inputs


def _orthogonal(rng: np.random.Generator, count: int, n: int) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((count, n, n)))[0]


def _with_spectrum(rng: np.random.Generator, count: int, s: np.ndarray) -> np.ndarray:
    n = len(s)
    # A few rotations in all pairings, since making one a matrix would take longer than solving it.
    left, right = (_orthogonal(rng, max(1, int(count**0.5)), n) for _ in range(2))
    pick = rng.integers(len(left), size=(2, count))
    return left[pick[0]] * s @ right[pick[1]]


KINDS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "random": lambda rng, count, n: rng.standard_normal((count, n, n)),
    "graded": lambda rng, count, n: _with_spectrum(rng, count, np.geomspace(1, 1e-12, n)),
    "clustered": lambda rng, count, n: _with_spectrum(
        rng, count, np.where(np.arange(n) % 2 == 0, 1.0, 1 - 1e-6)
    ),
    "rank-deficient": lambda rng, count, n: _with_spectrum(
        rng, count, np.where(np.arange(n) < n / 2, 1.0, 0.0)
    ),
    # Gram blocks of spaces that are nearly one: what a bank that shares A is full of.
    "near-identity": lambda rng, count, n: _with_spectrum(rng, count, 1 - 1e-5 * rng.random(n)),
}


def exact(G: np.ndarray) -> np.ndarray:
    """In float64 for float32, in 80 bits for float64."""
    if G.dtype == np.float32:
        return np.linalg.svd(G.astype(np.float64), compute_uv=False)
    return np.array([in_80_bits(g) for g in G], np.float64)


# --------------------------------------------------------------------------- solvers


def solvers(dtype: np.dtype) -> dict[str, Callable[[np.ndarray], Any]]:
    """Array in main memory → anything that NumPy takes as an array, computed in `dtype`."""
    import jax

    ours = jax.jit(singular_values)
    found: dict[str, Callable[[np.ndarray], Any]] = {
        "jaxtask": lambda G: ours(G).block_until_ready()
    }
    if installed("torch") is not None:
        import torch

        found["torch"] = lambda G: torch.linalg.svdvals(torch.from_numpy(G))
    from scipy.linalg import get_lapack_funcs

    (gesdd,) = get_lapack_funcs(("gesdd",), dtype=dtype)

    def scipy_loop(G: np.ndarray) -> np.ndarray:
        # NumPy's own svd would go through float64; the transpose has the same values and the order
        # of LAPACK.
        return np.stack([gesdd(g.T, compute_uv=0)[1] for g in G])

    found["scipy_gesdd"] = scipy_loop
    return found


def measure(size: str, kinds: list[str]) -> list[dict[str, Any]]:
    import jax

    rows = []
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(dtype == np.float64):
            there = solvers(np.dtype(dtype))
            for n in _SIZES:
                for kind in kinds:
                    rows.append(_row(there, kind, n, np.dtype(dtype), size))
                    print(rows[-1], file=sys.stderr, flush=True)
    return rows


def _row(
    there: dict[str, Callable[[np.ndarray], Any]],
    kind: str,
    n: int,
    dtype: np.dtype,
    size: str,
) -> dict[str, Any]:
    rng = np.random.default_rng(n)
    count = max(256, _ENTRIES[size] // (n * n) // (dtype.itemsize // 4))
    G = np.ascontiguousarray(KINDS[kind](rng, count, n).astype(dtype))
    checked = G[: _CHECKED if dtype == np.float32 else 2]
    right = exact(checked)
    row: dict[str, Any] = {"kind": kind, "n": n, "dtype": dtype.name, "matrices": count}
    # LAPACK is slow enough to be timed on fewer.
    given = {name: G if name == "jaxtask" else G[: max(256, count // 8)] for name in there}
    seconds: dict[str, list[float]] = {name: [] for name in there}
    for name, solve in there.items():
        solve(given[name])
        error = np.abs(np.asarray(solve(checked), np.float64) - right) / right[:, :1]
        row[f"{name}_error_eps"] = round(float(error.max() / np.finfo(dtype).eps), 2)
    for _ in range(_REPEATS[size]):
        for name, solve in there.items():
            start = time.perf_counter()
            solve(given[name])
            seconds[name].append(time.perf_counter() - start)
    for name, times in seconds.items():
        row[f"{name}_per_second"] = round(len(given[name]) / min(times))
        row[f"{name}_per_second_median"] = round(len(given[name]) / statistics.median(times))
    return row


# --------------------------------------------------------------------------- processes


def _process(threads: int, level: str, size: str, kinds: list[str]) -> dict[str, Any]:
    """What another process of so many threads measures; level "" is the processor's best."""
    with tempfile.NamedTemporaryFile(suffix=".json") as answer:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "benchmarks.singular_values",
                "--size",
                size,
                "--answer",
                answer.name,
                *kinds,
            ],
            env=thread_environment(threads) | ({"JAXTASK_NATIVE": level} if level else {}),
            check=True,
        )
        return {"threads": threads, **json.load(answer)}


def table(report: dict[str, Any]) -> str:
    """Matrices a second, as Markdown: of the kind that is slowest, next to LAPACK on it."""
    best, *lower, whole = report["runs"]
    rows = {(r["dtype"], r["n"], r["kind"]): r for r in best["rows"]}
    peers = [name for name in ("torch", "scipy_gesdd") if f"{name}_per_second" in best["rows"][0]]
    head = ["type, n", f"{best['native']}, one thread", "errors, eps"]
    head += [f"times {name}, its errors" for name in peers]
    head += [f"{run['native']}, random" for run in lower] + [f"{whole['threads']} threads over one"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for dtype, n in dict.fromkeys((r["dtype"], r["n"]) for r in best["rows"]):
        here = [r for r in best["rows"] if (r["dtype"], r["n"]) == (dtype, n)]
        cells = [f"{dtype} {n}", f"{_least(here, 'jaxtask_per_second') / 1e3:.0f}k"]
        cells += [f"{max(r['jaxtask_error_eps'] for r in here):.1f}"]
        for name in peers:
            ratio = min(r["jaxtask_per_second"] / r[f"{name}_per_second"] for r in here)
            cells.append(f"{ratio:.1f}×, {max(r[f'{name}_error_eps'] for r in here):.1f}")
        random = rows[dtype, n, "random"]["jaxtask_per_second"]
        others = {
            id(run): _least(
                [r for r in run["rows"] if (r["dtype"], r["n"]) == (dtype, n)], "jaxtask_per_second"
            )
            for run in (*lower, whole)
        }
        cells += [f"{others[id(run)] / 1e3:.0f}k" for run in lower]
        cells.append(f"{others[id(whole)] / random:.2f}×")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _least(rows: list[dict[str, Any]], key: str) -> float:
    return min(row[key] for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.singular_values", description=__doc__
    )
    parser.add_argument("--out", type=Path, default=_RESULTS / "singular-values-cpu.json")
    parser.add_argument("--size", choices=tuple(_ENTRIES), default="full")
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)}; all by default")
    arguments = parser.parse_args()
    kinds = arguments.kinds or list(KINDS)
    if arguments.answer:
        rows = measure(arguments.size, kinds)
        found = {"native": native.native().about, "process": describe_process(), "rows": rows}
        arguments.answer.write_text(json.dumps(found))
        return
    if native.native().library is None:
        sys.exit(f"nothing to measure, no native library: {native.native().about}")
    report: dict[str, Any] = {
        "command": command("benchmarks.singular_values", sys.argv[1:]),
        "machine": describe_machine(),
        "runs": [],
    }
    settings = [(1, "", kinds), *((1, level, ["random"]) for level in _LEVELS)]
    for threads, level, some in (*settings, (cores(), "", ["random"])):
        report["runs"].append(_process(threads, level, arguments.size, some))
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    print(table(report))


if __name__ == "__main__":
    main()
