"""The bank may be larger than what may be used: peak anonymous memory follows the budget."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

ROOT = Path(__file__).parents[2]
WIDTH, RANK, LAYERS = 1024, 16, 12
BUDGET = 16 << 20

CHILD = """
import sys
root, folder, budget = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.path[:0] = [root, root + "/kernels"]
import numpy as np
import jaxtask as jt
from benchmarks.memory import PeakMemory

B, A = np.ones((8, 2), "f"), np.ones((2, 8), "f")
jt.compare(jt.AdapterBank.from_factors({n: {"layers.0.q": (B, A)} for n in "ab"}))
bank = jt.load_adapters(folder)
with PeakMemory() as memory:
    ds = jt.compare(bank, metrics=["grassmann", "cosine"], memory_budget=budget)
assert np.isfinite(ds["grassmann_out"].values).all()
print(memory.risen - ds.nbytes)
"""


def write_adapters(folder, count):
    rng = np.random.default_rng(0)
    factors = [rng.standard_normal(s, "f") for s in ((RANK, WIDTH), (WIDTH, RANK))]
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK}
    for n in range(count):
        home = folder / f"task{n:03d}"
        home.mkdir(parents=True)
        tensors = {
            f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{x}.weight": np.roll(
                factor, n + 7 * layer
            )
            for layer in range(LAYERS)
            for x, factor in zip("AB", factors, strict=True)
        }
        save_file(tensors, home / "adapter_model.safetensors")
        (home / "adapter_config.json").write_text(json.dumps(config))


def peak(folder):
    """Bytes above what was there before, less the result itself."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(ROOT), str(folder), str(BUDGET)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_memory_follows_the_budget_not_the_number_of_adapters(tmp_path):
    write_adapters(tmp_path / "few", 4)
    write_adapters(tmp_path / "many", 64)
    total = sum(f.stat().st_size for f in (tmp_path / "many").rglob("*.safetensors"))
    assert total > 4 * BUDGET
    # Four adapters take no memory to speak of: what they show is what compiling takes.
    compiling = peak(tmp_path / "few")
    assert peak(tmp_path / "many") <= compiling + BUDGET
