"""What surrounds a command: limits, folders and readers that are gone."""

import os
import subprocess
import sys

import pytest

from jaxtask import machine
from shell import ENV, run


def start(command, *, before=(), **options):
    return subprocess.run(
        [*before, sys.executable, "-m", "jaxtask", *command.split()],
        stderr=subprocess.PIPE,
        text=True,
        env=ENV,
        timeout=60,
        **options,
    )


@pytest.mark.process
@pytest.mark.parametrize("command", ["", "tasks"])
def test_nothing_given_is_help(command):
    lines = run(*command.split(), code=2).stderr.splitlines()
    assert lines[0].startswith("Usage: ")
    assert "Commands:" in lines


@pytest.mark.process
def test_a_limit_that_xla_would_abort_at():
    # By a shell: a fork of this process, which may have started JAX, could deadlock.
    limited = ["sh", "-c", 'ulimit -v 976562 && exec "$0" "$@"']
    done = start("compare a b", before=limited)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("jaxtask: there is not enough memory: this process may map 1 GB")


def test_few_threads(monkeypatch):
    monkeypatch.setattr(machine, "_limit", lambda kind: 50 if kind == 6 else None)
    monkeypatch.setattr(machine.resource, "RLIMIT_NPROC", 6)
    machine.check_limits()  # as many as are needed can be started

    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(machine.threading.Thread, "start", refuse)
    with pytest.raises(MemoryError, match="this user may have 50"):
        machine.check_limits()


@pytest.mark.process
@pytest.mark.parametrize("command", ["inspect x", "compare x --out y", "tasks list --json"])
def test_a_working_folder_that_is_gone(command, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    code = f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); "
    code += f"import sys; sys.argv[1:] = {command.split()!r}; "
    code += "from jaxtask.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=ENV, timeout=60
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if done.stdout else 1)
    assert len(done.stderr.splitlines()) == (0 if done.stdout else 1)


@pytest.mark.process
@pytest.mark.parametrize("command", ["metrics", "metrics --json", "--help"])
def test_a_reader_that_is_gone(command):
    read, write = os.pipe()
    os.close(read)
    done = start(command, stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
