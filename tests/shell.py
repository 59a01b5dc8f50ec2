"""Commands, run as a user runs them, here or in a process of their own; and Python code there."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import typer
from typer.testing import CliRunner

from jaxtask.errors import JaxtaskError

ROOT = Path(__file__).parents[1]
ENV = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")]),
    "COLUMNS": "100",
}
# For code that can import what tests can.
_TESTS = ENV | {"PYTHONPATH": os.pathsep.join([ENV["PYTHONPATH"], str(ROOT / "tests")])}


def here(command, *arguments):
    """A command in this process: what it printed, or the error that is one line."""
    app = typer.Typer()
    app.command()(command)
    done = CliRunner(env={"COLUMNS": "100"}).invoke(app, list(map(str, arguments)))
    if isinstance(done.exception, JaxtaskError):
        return str(done.exception)
    assert done.exit_code == 0, done.output
    return done.output


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
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=_TESTS,
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
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=_TESTS | environment,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
