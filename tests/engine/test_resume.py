"""A comparison that is cut off goes on where it stopped, and ends with the same bits."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxtask as jt
import shell
from chunks import assert_same_bits
from jaxtask.engine import staging as draft
from jaxtask.engine import zarr_store as store
from jaxtask.engine.staging import Draft
from makers import random_bank

ROOT = Path(__file__).parents[2]
METRICS = ("grassmann", "cosine", "rec")
MODULES = 6

# Few as a routine; JAXTASK_KILLS=20 takes half a minute.
KILLS = int(os.environ.get("JAXTASK_KILLS", "4"))

# One process that imports everything, and forks one to be killed at a time.
KILLED = """
import os, random, signal, sys, time
from pathlib import Path
root, folder, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
sys.path[:0] = [root, root + "/kernels"]
import numpy as np, zarr, xarray
import jaxtask as jt
from jaxtask.engine import compare as comparison
from jaxtask.engine import write

rng = np.random.default_rng(0)
def update():
    return rng.standard_normal((40, 4), "f"), rng.standard_normal((4, 32), "f")
bank = jt.AdapterBank.from_factors(
    {f"t{t}": {f"layers.{n}.q": update() for n in range(12 * kills)} for t in range(5)}
)
started = []

def run(out):
    def progress(done, total):
        if not started:
            started.append(done)
            print(done, flush=True)
        time.sleep(0.002)
    jt.compare(bank, metrics=["grassmann", "cosine", "rec"], out=out, progress=progress)

def forked(out):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run(out)
            code = 0
        finally:
            os._exit(code)
    return child

def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

assert ended(forked(folder / "whole.zarr")) == 0
draws = random.Random(int(sys.argv[4]))
marks = folder / "cut.zarr.partial" / "done"
marked = lambda: len(list(marks.iterdir())) if marks.exists() else 0
for kill in range(kills):
    child, before = forked(folder / "cut.zarr"), marked()
    if kill % 4 == 0:
        time.sleep(draws.uniform(0, 1.5))
    else:
        while marked() < before + draws.randrange(1, 8):
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "ended by itself"
            time.sleep(0.001)
        time.sleep(draws.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    assert ended(child) == -signal.SIGKILL, "was not cut off"
assert not (folder / "cut.zarr").exists()
assert ended(forked(folder / "cut.zarr")) == 0
"""


@pytest.mark.process
@pytest.mark.slow
def test_kills_do_not_show(tmp_path):
    """kill -9 at random moments, many times over one sweep: the same bits as without."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(ROOT), str(tmp_path), str(KILLS), str(os.getpid())],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert_same_bits(tmp_path / "cut.zarr", tmp_path / "whole.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.zarr", "whole.zarr"]
    # The last process did what was left, and no more: it began with pairs that were there.
    begins = [int(word) for word in done.stdout.split()]
    assert begins[0] < begins[-1]


def bank(seed=0, tasks=4):
    shapes = {f"layers.{n}.q": (24, 20, 3) for n in range(MODULES)}
    return random_bank([f"t{t}" for t in range(tasks)], shapes, seed)


def run(path, given=None, **options):
    return jt.compare(given or bank(), metrics=METRICS, out=path, **options)


def cut_off(path, after=3, **options):
    """Leave a draft of so many modules or one or two more."""

    def stop(done, total):
        if done >= total * after / MODULES:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        run(path, progress=stop, **options)
    return stopped.value


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def computed(monkeypatch):
    """Which modules are written from now on."""
    seen, write = [], store.write_module

    def noting(folder, arrays, at, values):
        seen.append(at)
        return write(folder, arrays, at, values)

    monkeypatch.setattr(store, "write_module", noting)
    return seen


def test_an_interrupt_keeps_what_is_done(tmp_path, monkeypatch):
    stopped = cut_off(tmp_path / "r.zarr", after=5)
    assert names(tmp_path) == ["r.zarr.partial"]
    assert "r.zarr.partial" in stopped.__notes__[0]
    kept = len(Draft(tmp_path / "r.zarr").done())
    assert 0 < kept < MODULES
    seen, said = computed(monkeypatch), []
    run(tmp_path / "r.zarr", progress=lambda *now: said.append(now))
    assert len(seen) == MODULES - kept
    assert said[0] == (kept * 10, MODULES * 10)
    assert said[-1] == (MODULES * 10, MODULES * 10)
    run(tmp_path / "whole.zarr")
    assert_same_bits(tmp_path / "r.zarr", tmp_path / "whole.zarr")
    assert names(tmp_path) == ["r.zarr", "whole.zarr"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"given": bank(seed=1)}, "with other numbers: t0, t1, t2, t3"),
        ({"given": bank(tasks=3)}, "not given: t3"),
        ({"given": bank(tasks=5)}, "not in it: t4"),
        ({"sides": "in"}, "sides out,in there, in now"),
        ({"rank_rtol": 0.1}, "rank_rtol 4.*sqrt"),
        ({"dtype": "float64"}, "dtype float32 there, float64 now"),
        ({"memory_budget": 60_000}, "cut"),
    ],
)
def test_a_draft_of_something_else_is_refused(options, words, tmp_path):
    """The error says what differs; overwriting starts anew."""
    cut_off(tmp_path / "r.zarr", after=5, memory_budget=1 << 30)
    options = {"memory_budget": 1 << 30} | options
    kept = Draft(tmp_path / "r.zarr").done()
    with pytest.raises(jt.ResultError, match=f"unfinished.*{words}.*overwrite=True"):
        run(tmp_path / "r.zarr", **options)
    assert Draft(tmp_path / "r.zarr").done() == kept
    ds = run(tmp_path / "r.zarr", overwrite=True, **options)
    assert np.isfinite(ds["cosine"].values).all()
    assert names(tmp_path) == ["r.zarr"]


def test_metrics_of_ones_own_are_known_by_what_they_compute(tmp_path):
    def own(power):
        return jt.metric(lambda pair: (pair.core**power).sum(), name="own")

    def stop(done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    path = tmp_path / "r.zarr"
    with pytest.raises(KeyboardInterrupt):
        jt.compare(bank(), metrics=own(2), out=path, progress=stop)
    with pytest.raises(jt.ResultError, match="metrics"):
        jt.compare(bank(), metrics=own(4), out=path)
    again = jt.compare(bank(), metrics=own(2), out=path)
    np.testing.assert_array_equal(again["own"], jt.compare(bank(), metrics=own(2))["own"])


def test_a_second_process_is_refused(tmp_path):
    path = tmp_path / "r.zarr"
    with Draft(path).writing(alone=True):
        with pytest.raises(jt.ResultError, match=f"another process \\({os.getpid()} on "):
            run(path)
        with pytest.raises(jt.ResultError, match="another process"):
            run(path, overwrite=True)
    run(path)
    assert names(tmp_path) == ["r.zarr"]


@pytest.mark.process
def test_a_lock_ends_with_its_process(tmp_path):
    path = tmp_path / "r.zarr"
    holder = (
        "import sys, time; from pathlib import Path; from jaxtask.engine.staging import Draft\n"
        "with Draft(Path(sys.argv[1])).writing(alone=True):\n"
        "    print('held', flush=True); time.sleep(600)"
    )
    process = shell.start("-c", holder, path, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(jt.ResultError, match=f"\\({process.pid} on "):
        run(path)
    process.kill()
    process.communicate()
    run(path)
    assert names(tmp_path) == ["r.zarr"]


def test_a_full_disk_keeps_what_is_done(tmp_path, monkeypatch):
    path, write = tmp_path / "r.zarr", store.write_module

    def full(folder, arrays, at, values):
        if at[0] == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(folder, arrays, at, values)

    with monkeypatch.context() as patched:
        patched.setattr(store, "write_module", full)
        with pytest.raises(jt.ResultError, match=r"r\.zarr.*No space left") as error:
            run(path)
    assert "3 modules" in error.value.__notes__[0]
    assert names(tmp_path) == ["r.zarr.partial"]
    seen = computed(monkeypatch)
    run(path)
    assert sorted(at[0] for at in seen) == [3, 4, 5]


def test_a_disk_that_is_full_from_the_start_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store, "create", full)
    with pytest.raises(jt.ResultError, match="No space left"):
        run(tmp_path / "r.zarr")
    assert names(tmp_path) == []


def test_chunks_that_are_not_whole_are_written_again(tmp_path, monkeypatch):
    """As after a power failure: a mark that survived, of chunks that did not."""
    path = tmp_path / "r.zarr"
    cut_off(path, after=5)
    unfinished = Draft(path)
    first, second = sorted(unfinished.done())[:2]
    for module, spoil in ((first, Path.unlink), (second, lambda file: file.write_bytes(b"x"))):
        sizes = json.loads((unfinished.folder / "done" / str(module)).read_text())
        spoil(unfinished.result / next(iter(sizes)))
    kept = len(unfinished.done()) - 2
    seen = computed(monkeypatch)
    run(path)
    assert len(seen) == MODULES - kept
    run(tmp_path / "whole.zarr")
    assert_same_bits(path, tmp_path / "whole.zarr")


def test_a_kill_between_the_last_two_steps(tmp_path, monkeypatch):
    """The old result is out of the way and the new one not yet there: it is, at the next call."""
    path, rename = tmp_path / "r.zarr", os.rename
    run(path)

    def stop(source, target):
        if Path(target) == path:
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(draft.os, "rename", stop)
        with pytest.raises(KeyboardInterrupt):
            run(path, given=bank(seed=1), overwrite=True)
    assert not path.exists()
    with pytest.raises(jt.ResultError, match="exists"):
        run(path, given=bank(seed=1))
    run(tmp_path / "whole.zarr", given=bank(seed=1))
    assert_same_bits(path, tmp_path / "whole.zarr")
    assert names(tmp_path) == ["r.zarr", "whole.zarr"]


def test_a_kill_at_the_very_end(tmp_path, monkeypatch):
    """The result is in its place and its draft not yet gone: the next call removes what is left."""
    path, whole = tmp_path / "r.zarr", tmp_path / "whole.zarr"

    def stop(self):
        raise KeyboardInterrupt

    for _ in range(2):  # at first nothing is replaced
        with monkeypatch.context() as patched:
            patched.setattr(Draft, "remove", stop)
            with pytest.raises(KeyboardInterrupt):
                run(path, overwrite=path.exists())
        assert names(tmp_path) == ["r.zarr", "r.zarr.partial"]
        with pytest.raises(jt.ResultError, match="exists"):
            run(path)
        assert names(tmp_path) == ["r.zarr"]
    run(whole)
    assert_same_bits(path, whole)


def test_what_is_no_draft_is_left_alone(tmp_path):
    precious = tmp_path / "r.zarr.partial" / "chapter1.txt"
    precious.parent.mkdir()
    precious.write_text("…")
    for overwrite in (False, True):
        with pytest.raises(jt.ResultError, match=r"in the way.*chapter1\.txt"):
            run(tmp_path / "r.zarr", overwrite=overwrite)
    assert names(precious.parent) == ["chapter1.txt"]


@pytest.mark.parametrize("foreign", ["result/notes.txt", "result/.git/HEAD", "done/1.txt", "lock"])
def test_nothing_of_others_is_removed_from_a_folder_of_that_name(foreign, tmp_path):
    kept = tmp_path / "r.zarr.partial" / foreign
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    with pytest.raises(jt.ResultError, match="in the way: it holds"):
        run(tmp_path / "r.zarr", overwrite=True)
    assert kept.read_text() == "mine"
    assert names(tmp_path) == ["r.zarr.partial"]


MANIFESTS = [
    b"", b"[1]", b"{}", b"\xff", b"[" * 100_000,
    b'{"adapters": {"a": 1}, "empty": [], "identity": {}, "budget": 1, "known": 0}',
    b'{"adapters": {}, "empty": [3], "identity": {}, "budget": 1, "known": 0}',
    b'{"adapters": {}, "empty": [], "identity": {}, "budget": "1", "known": 0}',
    b'{"adapters": {}, "empty": [], "identity": {}, "budget": 1, "known": 7}',
]  # fmt: skip


@pytest.mark.parametrize("content", MANIFESTS)
def test_a_manifest_that_no_comparison_writes(content, tmp_path):
    place = tmp_path / "r.zarr.partial" / "manifest.json"
    (place.parent / "result").mkdir(parents=True)
    place.write_bytes(content)
    with pytest.raises(jt.ResultError, match=r"manifest\.json") as error:
        run(tmp_path / "r.zarr")
    assert "\n" not in str(error.value)
    assert place.read_bytes() == content
