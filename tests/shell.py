"""Other processes: the command, run as a user runs it, and Python code."""

import os
import subprocess
import sys
import textwrap
import time
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


def start(*arguments, **options):
    """Python with these arguments, started in a process that can import what tests can."""
    paths = os.pathsep.join([ENV["PYTHONPATH"], str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=ENV | {"PYTHONPATH": paths},
        text=True,
        **{"stderr": subprocess.PIPE, **options},
    )


def wait(process, ready, seconds=120):
    """Until it is `ready`; it must neither end nor take longer before that."""
    latest = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < latest
        time.sleep(0.005)


def python(code, *arguments, seconds=280, **environment):
    """What Python code prints in a process of its own, which must end well.

    It can import what tests can.
    """
    paths = os.pathsep.join([ENV["PYTHONPATH"], str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=ENV | {"PYTHONPATH": paths} | environment,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
