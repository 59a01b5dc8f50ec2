"""A sweep of the size of a public collection of adapters, from files to a result on disk.

500 adapters of rank 16 on q, k and v of 32 layers of Mistral-7B (inputs of 4096; outputs of 4096,
1024 and 1024), random, in PEFT's format and bfloat16: 9.4 GB, which are written to a temporary
folder first and removed at the end. `--tenth` takes 3 of the layers. Each run is a process of its
own, with a fresh result; the files are in the page cache where memory allows it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from benchmarks.machine import command, describe_machine

_RESULTS = Path(__file__).parent / "results"
_RANK, _WIDTH = 16, 4096
_OUTPUTS = {"q_proj": 4096, "k_proj": 1024, "v_proj": 1024}
_RUNS: dict[str, dict[str, Any]] = {
    "grassmann, out side": {"metrics": ["grassmann"], "sides": ["out"]},
    "all metrics, both sides": {},
}
_CONFIG = {
    "peft_type": "LORA",
    "base_model_name_or_path": "mistralai/Mistral-7B-Instruct-v0.2",
    "r": _RANK,
    "lora_alpha": 2 * _RANK,
    "target_modules": list(_OUTPUTS),
}


def write_adapters(folder: Path, adapters: int, layers: int) -> int:
    """Random adapters below `folder`; returns their bytes."""
    written = 0
    for n in range(adapters):
        rng = np.random.default_rng(n)
        tensors = {}
        for layer in range(layers):
            for module, d_out in _OUTPUTS.items():
                path = f"base_model.model.model.layers.{layer}.self_attn.{module}"
                for name, shape in (("A", (_RANK, _WIDTH)), ("B", (d_out, _RANK))):
                    values = rng.standard_normal(shape, dtype=np.float32)
                    tensors[f"{path}.lora_{name}.weight"] = values.astype(ml_dtypes.bfloat16)
        home = folder / f"task{n:03d}"
        home.mkdir(parents=True)
        (home / "adapter_config.json").write_text(json.dumps(_CONFIG))
        save_file(tensors, home / "adapter_model.safetensors", metadata={"format": "pt"})
        written += (home / "adapter_model.safetensors").stat().st_size
    return written


_CHILD = """
import json, sys, time
start = time.perf_counter()
folder, out, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
from benchmarks.memory import PeakMemory
import jaxtask as jt
first = []

def progress(compared, total):
    if not first:
        first.append(time.perf_counter() - start)

with PeakMemory() as memory:
    bank = jt.load_adapters(folder)
    opened = time.perf_counter() - start
    ds = jt.compare(bank, out=out, progress=progress, **options)
    whole = time.perf_counter() - start
cells = sum(len(bank.present(k)) * (len(bank.present(k)) - 1) // 2 for k in bank.modules)
print(json.dumps({
    "seconds": whole, "seconds_to_open": opened, "seconds_to_first_tile": first[0],
    "cells": cells, "microseconds_per_cell": 1e6 * whole / cells,
    "peak_anonymous_gigabytes": memory.peak / 1e9,
    "variables": len(ds.data_vars), "uncompressed_gigabytes": ds.nbytes / 1e9,
    "native": ds.attrs["native"],
}))
"""


def measure(adapters: Path, options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One comparison in a process of its own."""
    out = folder / "result.zarr"
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(adapters), str(out), json.dumps(options)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    files = [file for file in out.rglob("*") if file.is_file()]
    written = sum(file.stat().st_size for file in files)
    return found | {"files_written": len(files), "gigabytes_written": written / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("--tenth", action="store_true", help="3 of the 32 layers")
    parser.add_argument("--adapters", type=int, default=500)
    parser.add_argument("--runs", nargs="+", choices=_RUNS, default=list(_RUNS), metavar="RUN")
    parser.add_argument("--folder", type=Path, help="for adapters and results; not the system's")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    layers = 3 if arguments.tenth else 32
    out = arguments.out or _RESULTS / f"sweep{'-tenth' if arguments.tenth else ''}.json"
    report: dict[str, Any] = {
        "command": command("benchmarks.sweep", sys.argv[1:]),
        "machine": describe_machine(),
        "adapters": arguments.adapters,
        "layers": layers,
        "runs": {},
    }
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        start = time.perf_counter()
        bank = Path(folder) / "adapters"
        report["gigabytes_of_adapters"] = write_adapters(bank, arguments.adapters, layers) / 1e9
        os.sync()  # or the first results would wait for the adapters to reach the disk
        written = time.perf_counter() - start
        print(f"{report['gigabytes_of_adapters']:.2f} GB written in {written:.0f} s", flush=True)
        for name in arguments.runs:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                found = measure(bank, _RUNS[name], Path(place))
            report["runs"][name] = found
            print(name, json.dumps(found), flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
