"""All peers in one process, on the same inputs, taking turns. Started by `benchmarks.pairwise`.

A process of its own, because libraries read the number of their threads once, when they load.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe_process, installed
from benchmarks.peers import PEERS, Peer
from benchmarks.problem import Problem, Sample, Shape, all_pairs, make_problem, truth

# What slow peers are timed on; times per cell of the rest are extrapolated from it.
_MODULES = 2
_PAIRS = 16


def sample_for(peer: Peer, shape: Shape) -> Sample:
    """The cells to time a peer on. Module 0 and the pair (0, 1) of near copies are always in."""
    pairs = all_pairs(shape.tasks)
    spread = pairs[:: max(1, len(pairs) // _PAIRS)][:_PAIRS]
    return {
        "everything": Sample(tuple(range(shape.modules)), pairs),
        "modules": Sample(tuple(range(min(_MODULES, shape.modules))), pairs),
        "pairs": Sample((0,), spread),
        "one pair": Sample(tuple(range(shape.modules)), pairs[:1]),
    }[peer.sampling]


def measure(shape: Shape, names: list[str], repeats: int) -> dict[str, Any]:
    """Times and errors of the named peers at one shape."""
    problem = make_problem(shape)
    right = truth(problem, 0)
    rows = {name: _row(PEERS[name], shape) for name in names}
    runnable = [name for name in names if rows[name]["status"] == "ok"]
    for name in runnable:
        rows[name] |= _first_call(PEERS[name], problem, right)
    seconds: dict[str, list[float]] = {name: [] for name in runnable}
    busy: dict[str, list[float]] = {name: [] for name in runnable}
    for _ in range(repeats):
        # In turns, so that a busy neighbour slows down all of them alike.
        for name in runnable:
            _, wall, processor = _timed(PEERS[name], problem)
            seconds[name].append(wall)
            busy[name].append(processor / wall)
    for name in runnable:
        per_cell = 1e6 / rows[name]["cells_timed"]
        rows[name] |= {
            "microseconds_per_cell_min": min(seconds[name]) * per_cell,
            "microseconds_per_cell_median": statistics.median(seconds[name]) * per_cell,
            "seconds": seconds[name],
            "cores_busy": statistics.median(busy[name]),
        }
    return {**vars(shape), "cells": shape.cells, "peers": rows}


def _row(peer: Peer, shape: Shape) -> dict[str, Any]:
    missing = [name for name in peer.needs if installed(name) is None]
    row: dict[str, Any] = {
        "quantity": peer.quantity,
        "note": peer.note,
        "status": f"not installed: {', '.join(missing)}" if missing else "ok",
        "version": installed(peer.needs[0]) if peer.needs else None,
    }
    cells = sample_for(peer, shape).cells
    return row | {"cells_timed": cells, "extrapolated": cells < shape.cells}


def _first_call(peer: Peer, problem: Problem, right: dict[str, np.ndarray]) -> dict[str, Any]:
    """The call that compiles, if anything does, and what is checked of its result."""
    sample = sample_for(peer, problem.shape)
    result, wall, _ = _timed(peer, problem)
    position = {pair: at for at, pair in enumerate(all_pairs(problem.shape.tasks))}
    expected = right[peer.quantity][[position[pair] for pair in sample.pairs]]
    errors = np.abs(peer.read(result, sample)[0] - expected)
    apart = np.array([pair != (0, 1) for pair in sample.pairs])
    return {
        "first_call_seconds": wall,
        "largest_error": float(np.max(errors[apart], initial=0)) if apart.any() else None,
        "error_of_near_copies": float(errors[~apart][0]),
        "cells_checked": len(sample.pairs),
    }


def _timed(peer: Peer, problem: Problem) -> tuple[Any, float, float]:
    """Result, wall seconds and processor seconds of one run on fresh inputs."""
    inputs = peer.setup(problem, sample_for(peer, problem.shape))
    gc.collect()
    wall, processor = time.perf_counter(), time.process_time()
    result = peer.run(inputs)
    return result, time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("request", help="JSON: shapes, peers, repeats")
    parser.add_argument("answer", type=Path, help="file to write")
    arguments = parser.parse_args()
    request = json.loads(arguments.request)
    shapes = []
    for shape in request["shapes"]:
        print(f"  {shape}", file=sys.stderr, flush=True)
        shapes.append(measure(Shape(**shape), request["peers"], request["repeats"]))
    arguments.answer.write_text(json.dumps({"process": describe_process(), "shapes": shapes}))


if __name__ == "__main__":
    main()
