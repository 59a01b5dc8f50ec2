"""A report of 100 adapters × 64 modules: its size, the time to open it, the time to answer.

Opened in a headless Chromium, a fresh one each time, from a file. The bounds are those that the
report is made for: under 20 MB, open in under 3 s, and an answer within half a second.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import jaxtask as jt
from benchmarks.browser import Browser
from benchmarks.machine import command, describe_machine, installed
from jaxtask.report.page import write_page

_RESULTS = Path(__file__).parent / "results"
_BOUNDS = {"megabytes": 20.0, "open_seconds": 3.0, "answer_seconds": 0.5}
_FULL = {"tasks": 100, "layers": 32, "d": 256, "r": 16, "repeats": 5}
_QUICK = {"tasks": 6, "layers": 2, "d": 32, "r": 4, "repeats": 1}
_MODULES = ("self_attn.q_proj", "self_attn.v_proj")
_TOPICS = 6
# Controls, and what is chosen there, one after the other.
_CHOICES = (
    ("matrix-side", "in"),
    ("matrix-layer", "1"),
    ("matrix-layer", ""),
    ("matrix-order", "name"),
    ("matrix-metric", "rec"),
    ("pair-pair", "5"),
    ("pair-layer", "1"),
    ("layers-metric", "cosine"),
)


def bank(size: dict[str, int]) -> jt.AdapterBank:
    """Random adapters; those of one topic share a quarter of their spaces."""
    rng = np.random.default_rng(0)
    d, r = size["d"], size["r"]

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    tasks: dict[str, Any] = {f"topic{n % _TOPICS}-task{n:03d}": {} for n in range(size["tasks"])}
    for layer in range(size["layers"]):
        for module in _MODULES:
            shared = [(normal(d, r // 4), normal(r // 4, d)) for _ in range(_TOPICS)]
            for n, own in enumerate(tasks.values()):
                out, inp = shared[n % _TOPICS]
                B = np.concatenate([out, normal(d, r - r // 4)], axis=1)
                A = np.concatenate([inp, normal(r - r // 4, d)], axis=0)
                own[f"layers.{layer}.{module}"] = (B, A)
    return jt.AdapterBank.from_factors(tasks)


def visit(page: Path) -> dict[str, Any]:
    """Seconds to open (and of processor time in them) and to answer by control; the console."""
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(profile)
        try:
            browser.size(1280)
            opened = browser.open(page)
            busy = browser.busy()
            browser.scroll_through()
            answers = {f"{name} = {value}": browser.choose(name, value) for name, value in _CHOICES}
            return {
                "open_seconds": opened,
                "open_processor_seconds": busy,
                "answer_seconds": answers,
                "console": browser.console(),
            }
        finally:
            browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does everything run?")
    parser.add_argument("--out", type=Path, default=_RESULTS / "report.json")
    arguments = parser.parse_args()
    size = _QUICK if arguments.quick else _FULL
    with tempfile.TemporaryDirectory() as folder:
        ds = jt.compare(bank(size), keep=["angles", "spectra"], out=Path(folder) / "result.zarr")
        start = time.perf_counter()
        findings = jt.analyze(ds)
        analyzed = time.perf_counter() - start
        page = Path(folder) / "report.html"
        start = time.perf_counter()
        write_page(ds, findings, page)
        written = time.perf_counter() - start
        visits = [visit(page) for _ in range(size["repeats"])]
        megabytes = page.stat().st_size / 1e6
    answers = {
        name: statistics.median(v["answer_seconds"][name] for v in visits)
        for name in visits[0]["answer_seconds"]
    }
    report = {
        "command": command("benchmarks.report", sys.argv[1:]),
        "machine": describe_machine(),
        "plotly": installed("plotly"),
        **size,
        "modules": size["layers"] * len(_MODULES),
        "megabytes": megabytes,
        "analyze_seconds": analyzed,
        "write_seconds": written,
        "open_seconds": [v["open_seconds"] for v in visits],
        "open_processor_seconds": [v["open_processor_seconds"] for v in visits],
        "answer_seconds": answers,
        "console": [line for v in visits for line in v["console"]],
    }
    told = {
        "megabytes": megabytes,
        "open_seconds": statistics.median(report["open_seconds"]),
        "answer_seconds": max(answers.values()),
    }
    for name, bound in _BOUNDS.items():
        print(f"{name:<16}{told[name]:8.2f}   under {bound:g}", flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    missed = [name for name, bound in _BOUNDS.items() if told[name] >= bound]
    if missed or report["console"]:
        sys.exit(f"missed: {', '.join([*missed, *report['console']])}")


if __name__ == "__main__":
    main()
