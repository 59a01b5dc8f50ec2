"""The command, run as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENV = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")]),
    "COLUMNS": "100",
}


def run(*arguments, code=0):
    """What it said, once it has ended with this exit status and without a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "jaxtask", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=ENV,
        timeout=180,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done
