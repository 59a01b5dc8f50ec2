"""However many matrices there are, memory holds one pair of them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from extract.checkpoints import save

ROOT = Path(__file__).parents[2]
WIDTH, MATRICES, RANK = 1536, 8, 8
MATRIX = 4 * WIDTH * WIDTH

CHILD = """
import sys
root, before, after, rank, width = sys.argv[1:]
sys.path[:0] = [root, root + "/kernels"]
import numpy as np, scipy.linalg
import jaxtask as jt
from jaxtask.extract.low_rank import low_rank
from benchmarks.memory import PeakMemory

# What BLAS takes for itself at its first use does not count.
low_rank(np.ones((int(width),) * 2, "f"), int(rank), None, np.random.default_rng(0))
with PeakMemory() as memory:
    adapter = jt.from_checkpoints(before, after, rank=int(rank))
assert len(adapter.modules) > 1
print(memory.risen)
"""


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_one_pair_of_matrices_is_held(tmp_path):
    rng = np.random.default_rng(0)
    first = rng.standard_normal((WIDTH, WIDTH), dtype=np.float32)
    names = [f"model.layers.{n}.q_proj.weight" for n in range(MATRICES)]
    base = save(tmp_path / "base", dict.fromkeys(names, first))
    tuned = save(tmp_path / "tuned", {n: np.roll(first, i + 1) for i, n in enumerate(names)})
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(ROOT), str(base), str(tuned), str(RANK), str(WIDTH)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    held = int(done.stdout)
    # Thin matrices, factors and blocks that are read take the rest.
    assert MATRIX < held < 3 * MATRIX
