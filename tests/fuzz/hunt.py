"""The rule, mutant by mutant: a value or one JaxtaskError of one line, within bounds.

Mutants are read in a process of their own (`python -m fuzz.hunt`), so that what hangs or kills it
is found too; here it is started, listened to, and started again behind such a mutant.
"""

import faulthandler
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.kinds import FAULTS, KINDS, fork_templates

SECONDS = 5
BYTES = 10**9
LONGEST = 1000
ROOT = Path(__file__).parents[2]
_KINDS = KINDS | FAULTS


@dataclass
class Tally:
    """What mutants of a kind came to."""

    outcomes: Counter = field(default_factory=Counter)
    """How many were read and refused, and how many failed."""
    failures: dict = field(default_factory=dict)
    """What went wrong → the numbers of the mutants."""
    slowest: tuple = (0.0, None)
    """Seconds, and which mutant."""
    largest: tuple = (0, None)
    """Bytes of memory above those before it, and which mutant."""

    def add(self, n, outcome, said="", seconds=0.0, more=0):
        """One more."""
        self.outcomes[outcome] += 1
        if outcome == "failed":
            self.failures.setdefault(said, []).append(n)
        self.slowest = max(self.slowest, (seconds, n), key=lambda pair: pair[0])
        self.largest = max(self.largest, (more, n), key=lambda pair: pair[0])


def hunt(mutants, seed=0, first=0, *, forked=False, seconds=SECONDS, most=BYTES):
    """The tallies of so many mutants of each kind, by name.

    Mutants are the same for the same kind, seed and number. `forked`: see `fork_templates`.
    """
    tallies = {name: Tally() for name in mutants}
    asked = [[name, seed, first, first + many] for name, many in mutants.items()]
    while asked and (at := _listen(asked, [forked, seconds, most], tallies)) is not None:
        name, n, said = at
        tallies[name].add(n, "failed", said)
        asked = asked[next(i for i, one in enumerate(asked) if one[0] == name) :]
        asked[0][2] = n + 1
    return tallies


def _listen(asked, how, tallies):
    """Read what a new process says; the mutant that it ended at, if it did not reach the end."""
    paths = os.pathsep.join(str(ROOT / part) for part in ("", "kernels", "tests"))
    one = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as scratch, open(Path(scratch) / "said", "w+b") as said:
        here = {"PYTHONPATH": paths, "TMPDIR": scratch, "HOME": scratch, "JAX_PLATFORMS": "cpu"}
        process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.hunt", json.dumps([asked, *how])],
            stdout=subprocess.PIPE,
            stderr=said,
            cwd=scratch,
            env=os.environ | one | here,
            start_new_session=True,
        )
        at = None
        try:
            for line in process.stdout:
                told = json.loads(line)
                if "outcome" in told:
                    tallies[at[0]].add(at[1], **told)
                    at = None
                else:
                    at = told["name"], told["n"]
            status = process.wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            process.stdout.close()
        if status == 0:
            return None
        said.seek(0)
        lines = said.read().decode(errors="replace").splitlines()
        if at is None:
            raise RuntimeError("no mutant was read: " + "\n".join(lines[-20:]))
        if any(line.startswith("Timeout (") for line in lines):
            own = [line.strip() for line in lines if f"{ROOT}/jaxtask" in line]
            where = own[0].replace(f"{ROOT}/", "") if own else "?"
            return *at, f"hangs for {how[1]:g} seconds @ {where}"
        return *at, f"ends the process with {status}: {lines[-1] if lines else ''}"


def replay(name, seed, n, folder):
    """Make one mutant in a folder and read it here; what it raises is raised."""
    kind = _KINDS[name]
    kind.make(folder)
    kind.read(folder)
    shutil.rmtree(folder / "out", ignore_errors=True)
    file, content = _mutant(name, kind, _files(kind, folder), seed, n)
    file.write_bytes(content)
    kind.read(folder)


def _files(kind, folder):
    return {
        f: f.read_bytes()
        for f in sorted(folder.glob(kind.files))
        if f.is_file() and f.stat().st_size
    }


def _mutant(name, kind, files, seed, n):
    """Which file it is that is changed, and to what."""
    chance = random.Random(f"{name} {seed} {n}")
    # A result has many small chunks, and few files that say what they are.
    json_files = [file for file in files if file.suffix == ".json"]
    file = chance.choice(json_files if json_files and chance.random() < 0.5 else list(files))
    return file, kind.mutant(file, files[file], chance)


def main():
    """Read mutants, and say on standard output what becomes of each."""
    asked, forked, seconds, most = json.loads(sys.argv[1])
    voice = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    if forked:
        fork_templates()
    for name, seed, first, last in asked:
        folder = Path(name.replace(" ", "-")).absolute()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        kind = _KINDS[name]
        kind.make(folder)
        kind.read(folder)
        shutil.rmtree(folder / "out", ignore_errors=True)
        files = _files(kind, folder)
        _bound_memory()
        for n in range(first, last):
            file, content = _mutant(name, kind, files, seed, n)
            file.write_bytes(content)
            voice.write(json.dumps({"name": name, "n": n}) + "\n")
            voice.write(json.dumps(_watched(kind, folder, seconds, most)) + "\n")
            shutil.rmtree(folder / "out", ignore_errors=True)
            file.write_bytes(files[file])


def _watched(kind, folder, limit, most):
    """The outcome of one mutant."""
    before = _names(folder)
    printed = os.fstat(2).st_size
    _reset_peak()
    memory, start = _peak(), time.perf_counter()
    faulthandler.dump_traceback_later(limit, exit=True, file=2)
    outcome, said = "read", ""
    _Writes.found.clear()
    _Writes.allowed = str(folder.parent)
    try:
        kind.read(folder)
    except BaseException as error:  # noqa: BLE001 (whatever it is, it is what is asked for)
        outcome, said = _judged(error, kind)
    seconds = time.perf_counter() - start
    faulthandler.cancel_dump_traceback_later()
    _Writes.allowed = None
    more = _peak() - memory
    new = _names(folder) - before
    if outcome == "refused" and new:
        outcome, said = "failed", f"refused, and leaves {sorted(new)[0]}"
    if _Writes.found:
        outcome, said = "failed", f"writes {_Writes.found[0]}"
    if more > most:
        outcome, said = "failed", f"takes more than {most / 1e9:g} GB"
    if b"panicked" in _printed(printed):
        outcome, said = "failed", "a library says on standard error that it panicked"
    return {"outcome": outcome, "said": said, "seconds": seconds, "more": more}


def _judged(error, kind):
    """Whether a refusal is one line of ours, and what it is if not."""
    from jaxtask.cli import main as cli
    from jaxtask.errors import JaxtaskError

    if isinstance(error, JaxtaskError):
        text = str(error)
    elif kind.chunks and isinstance(error, Exception) and (told := cli._cause(error)):
        text = "\n".join(told)
    else:
        return "failed", _last_line(error)
    if len(text) >= LONGEST:
        return "failed", f"at least {LONGEST:,} characters: {_placeless(text)!r:.100}"
    if len(text.splitlines()) != 1:
        return "failed", f"no single line: {_placeless(text)!r:.300}"
    return "refused", ""


def _placeless(text):
    """Without the folder, which is another one in every run."""
    return text.replace(f"{Path.cwd()}/", "")


def _last_line(error):
    """The error, and the last line of ours that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).is_relative_to(ROOT / "jaxtask")] or frames
    try:
        said = " ".join(str(error).split())
    except ValueError:
        said = "?"
    where = f"{Path(own[-1].filename).name}:{own[-1].lineno}"
    return f"{type(error).__name__}: {said:.150} @ {where}"


class _Writes:
    """Files that are opened for writing elsewhere, made, moved or removed."""

    allowed = None
    found: list = []  # noqa: RUF012

    @classmethod
    def hear(cls, event, arguments):
        if cls.allowed is None or event not in cls.events:
            return
        if event == "open":
            writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
            mode, flags = arguments[1:]
            if not (flags & writes if mode is None else set(mode) & set("wax+")):
                return
        path = arguments[0]
        if not isinstance(path, str | bytes | os.PathLike):
            return
        path = os.path.realpath(os.fsdecode(path))
        if path != os.devnull and not path.startswith(cls.allowed):
            cls.found.append(f"{event} {path}")

    events = frozenset(
        ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link")
    )


def _names(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _printed(start):
    """What standard error, which is a file, got since."""
    size = os.fstat(2).st_size - start
    return os.pread(2, size, start) if size else b""


def _reset_peak():
    Path("/proc/self/clear_refs").write_text("5")


def _peak():
    """Bytes of memory at most since the last reset."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def _bound_memory():
    """Keep the machine safe: what asks for far more than is allowed does not get it."""
    status = Path("/proc/self/status").read_text()
    used = 1024 * int(status.split("VmData:")[1].split()[0])
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used + 4 * BYTES, most))


if __name__ == "__main__":
    sys.addaudithook(_Writes.hear)
    main()
