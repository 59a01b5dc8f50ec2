"""Several devices and several processes: the same bits as one device in one process."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import jaxtask as jt
from chunks import assert_same_bits
from jaxtask_kernels.native import native
from shell import python

ROOT = Path(__file__).parents[2]
ENV = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")]),
}
ONE = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
EIGHT = ONE | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}

# Blocks of few tasks, so that there are more tiles than devices, and of two modules at a time.
SWEEP = """
import sys
from pathlib import Path
import jax, numpy as np
import jaxtask as jt
from jaxtask.engine import backend, plan
from jaxtask.engine.staging import Draft
plan.CPU = plan.CPU._replace(tile_columns=4 * 16)
rng = np.random.default_rng(0)
def update(d):
    return rng.standard_normal((d, 4), "f"), rng.standard_normal((4, 40), "f")
shared = update(48)
bank = jt.AdapterBank.from_factors({
    f"t{t:02d}": {"layers.0.q": update(48), "layers.1.q": shared if t % 5 == 0 else update(48),
                  "layers.1.v": update(24)}
    for t in range(37)
})
texts = []
def noting(arguments, *, spec, mesh, run=backend.measure_tiles):
    if not texts:
        texts.append(run.lower(arguments, spec=spec, mesh=mesh).compile().as_text())
    return run(arguments, spec=spec, mesh=mesh)
backend.measure_tiles = noting
jt.compare(bank, metrics=["grassmann", "geodesic", "cosine", "overlap"], keep=["angles"],
           out=sys.argv[1])
print(jax.local_device_count())
print(*texts)
"""
COLLECTIVES = r"all-reduce|all-gather|all-to-all|reduce-scatter|collective|partition-id|send|recv"


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(native().library is None, reason="LAPACK keeps a CPU's devices to one")
def test_eight_devices_are_as_one(tmp_path):
    one = python(SWEEP, tmp_path / "one.zarr", **ONE)
    eight = python(SWEEP, tmp_path / "eight.zarr", **EIGHT)
    assert_same_bits(tmp_path / "eight.zarr", tmp_path / "one.zarr")
    assert one.split() == ["1"]
    count, _, compiled = eight.partition("\n")
    assert count == "8"
    assert "num_partitions=8" in compiled
    assert not re.search(COLLECTIVES, compiled)


@pytest.fixture
def adapters(tmp_path):
    rng = np.random.default_rng(0)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    for t in range(6):
        tensors = {}
        for layer in range(5):
            for name, d_out in (("q_proj", 48), ("v_proj", 24)):
                path = f"base_model.model.model.layers.{layer}.self_attn.{name}"
                tensors[f"{path}.lora_A.weight"] = rng.standard_normal((4, 40), "f")
                tensors[f"{path}.lora_B.weight"] = rng.standard_normal((d_out, 4), "f")
        home = tmp_path / "adapters" / f"t{t}"
        home.mkdir(parents=True)
        save_file(tensors, home / "adapter_model.safetensors")
        (home / "adapter_config.json").write_text(json.dumps(config))
    return tmp_path / "adapters"


def start(adapters, out, *more):
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "jaxtask", "compare", adapters, "--out", out, "--json"),
            *("--metrics", "grassmann,cosine,rec", *map(str, more)),
        ],
        env=ENV,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process, code=0):
    out, err = process.communicate(timeout=200)
    assert process.returncode == code, err
    return out, err


def two(adapters, out, *more):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    where = ("--distributed", "--coordinator", f"localhost:{port}", "--processes", 2, "--process")
    return [start(adapters, out, *more, *where, n) for n in range(2)]


@pytest.mark.process
@pytest.mark.slow
def test_two_processes_are_as_one(adapters, tmp_path):
    alone, _ = ended(start(adapters, tmp_path / "one.zarr"))
    (leader, _), (other, _) = map(ended, two(adapters, tmp_path / "two.zarr"))
    assert_same_bits(tmp_path / "two.zarr", tmp_path / "one.zarr")
    assert json.loads(leader) == json.loads(alone)
    assert not other
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapters", "one.zarr", "two.zarr"]
    # What one cannot do, because the result is there, is an error in both.
    for _, told in [ended(process, 1) for process in two(adapters, tmp_path / "two.zarr")]:
        assert "two.zarr exists" in told
    assert jt.open_result(tmp_path / "two.zarr").sizes["task"] == 6
