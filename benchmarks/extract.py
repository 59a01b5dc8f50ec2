"""From two checkpoints to a task vector: at which share of the rate of reading alone?

Layers of the shape of Mistral-7B in bfloat16, before and after a synthetic fine-tuning (low rank
plus noise), are written to a temporary folder that is removed at the end. Each run is a process of
its own. Cold runs start with the files out of the page cache.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from benchmarks.machine import command, describe_machine

_RESULTS = Path(__file__).parent / "results"
_WIDTH, _INNER, _HEADS = 4096, 14336, 1024
_SHAPES = {
    "self_attn.q_proj": (_WIDTH, _WIDTH),
    "self_attn.k_proj": (_HEADS, _WIDTH),
    "self_attn.v_proj": (_HEADS, _WIDTH),
    "self_attn.o_proj": (_WIDTH, _WIDTH),
    "mlp.gate_proj": (_INNER, _WIDTH),
    "mlp.up_proj": (_INNER, _WIDTH),
    "mlp.down_proj": (_WIDTH, _INNER),
}
_LARGEST_PAIR = 2 * 4 * _WIDTH * _INNER  # in float32


def write_checkpoints(folder: Path, layers: int) -> list[Path]:
    """Two folders of one shard a layer."""
    folders = [folder / name for name in ("base", "tuned")]
    places: dict[str, str] = {}
    for layer in range(layers):
        rng = np.random.default_rng(layer)
        before, after = {}, {}
        for module, (m, n) in _SHAPES.items():
            name = f"model.layers.{layer}.{module}.weight"
            places[name] = f"model-{layer}.safetensors"
            matrix = 0.02 * rng.standard_normal((m, n), dtype=np.float32)
            before[name] = matrix.astype(ml_dtypes.bfloat16)
            matrix += 1e-3 * rng.standard_normal((m, n), dtype=np.float32)
            left, right = (rng.standard_normal(s, dtype=np.float32) for s in ((m, 16), (16, n)))
            after[name] = (matrix + 1e-3 * left @ right).astype(ml_dtypes.bfloat16)
        for home, tensors in zip(folders, (before, after), strict=True):
            home.mkdir(parents=True, exist_ok=True)
            save_file(tensors, home / f"model-{layer}.safetensors")
    for home in folders:
        (home / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folders


_CHILD = """
import json, sys, time
base, tuned, rank = sys.argv[1], sys.argv[2], int(sys.argv[3])
import numpy as np, scipy.linalg
import jaxtask as jt
from jaxtask.extract.checkpoint import open_checkpoint
from jaxtask.extract.low_rank import low_rank
from jaxtask.extract.shared_rows import row_blocks
from benchmarks.memory import PeakMemory

low_rank(np.ones((300, 300), "f"), 8, None, np.random.default_rng(0))
with PeakMemory() as memory:
    start, worked, found = time.perf_counter(), time.process_time(), {}
    if rank:
        modules = jt.from_checkpoints(base, tuned, rank=rank).provenance["extracted"]["modules"]
        found["least_kept"] = min(module["kept"] for module in modules.values())
    else:
        for checkpoint in (base, tuned):
            for tensor in open_checkpoint(checkpoint).tensors.values():
                for rows in row_blocks(np.empty(tensor.shape, "f"), 1 << 20):
                    tensor.raw(rows)
    found["seconds"] = time.perf_counter() - start
    found["processor_seconds"] = time.process_time() - worked
print(json.dumps(found | {"peak_anonymous_bytes": memory.risen}))
"""


def measure(folders: list[Path], rank: int, cold: bool) -> dict[str, Any]:
    """One run in a process of its own; rank 0 only reads."""
    files = [file for folder in folders for file in folder.glob("*.safetensors")]
    if cold:
        for file in files:
            with file.open("rb") as opened:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *map(str, folders), str(rank)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    size = sum(file.stat().st_size for file in files)
    peak = found.pop("peak_anonymous_bytes")
    return found | {
        "megabytes_per_second": size / 1e6 / found["seconds"],
        "megabytes_per_processor_second": size / 1e6 / found["processor_seconds"],
        "peak_memory_over_largest_pair": peak / _LARGEST_PAIR,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.extract", description=__doc__)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--ranks", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--folder", type=Path, help="for the checkpoints; not the system's")
    parser.add_argument("--out", type=Path, default=_RESULTS / "extract-cpu.json")
    arguments = parser.parse_args()
    report: dict[str, Any] = {
        "command": command("benchmarks.extract", sys.argv[1:]),
        "machine": describe_machine(),
        "layers": arguments.layers,
        "runs": {},
    }
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        folders = write_checkpoints(Path(folder), arguments.layers)
        os.sync()  # or pages that are not on the disk yet would stay in memory
        for pages in ("cold", "warm"):
            alone = None
            for rank in (0, *arguments.ranks):
                found = measure(folders, rank, pages == "cold")
                alone = alone or found["megabytes_per_second"]
                found["share_of_reading_alone"] = found["megabytes_per_second"] / alone
                name = f"rank {rank}, {pages}" if rank else f"reading alone, {pages}"
                report["runs"][name] = found
                print(name, json.dumps(found), flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
