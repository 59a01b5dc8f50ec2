"""Checkpoints: bit for bit, only whole ones, the last few; and ending on SIGTERM."""

import os
import random
import shutil
import signal
import subprocess
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import shell
from jaxtask.errors import CheckpointError
from jaxtask.finetune.training.checkpoint import Checkpoints
from jaxtask.finetune.training.stop import StopOnSignal


def tree(step, size=64):
    rng = np.random.default_rng(step)
    return {
        "A": jnp.asarray(rng.standard_normal((2, size)), jnp.float32),
        "optimiser": (jnp.full(3, step, jnp.int32), {"mu": rng.standard_normal(size)}),
        "half": jnp.asarray(rng.standard_normal(5), jnp.bfloat16),
        "key": jax.random.key(step),
        "step": np.array(step),
    }


def bits(arrays):
    leaves = jax.tree.leaves(arrays)
    plain = [
        jax.random.key_data(x)
        if jnp.issubdtype(getattr(x, "dtype", None), jax.dtypes.prng_key)
        else x
        for x in leaves
    ]
    return [(str(np.asarray(x).dtype), np.asarray(x).tobytes()) for x in plain]


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    record = {"loss": 0.1 + 0.2, "positions": {"ner": [1, 2]}, "none": None}
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.latest() is None
        checkpoints.save(7, tree(7), record)
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.latest() == 7
        arrays, found = checkpoints.arrays(tree(0)), checkpoints.record()
    assert bits(arrays) == bits(tree(7))
    assert jax.tree.structure(arrays) == jax.tree.structure(tree(7))
    assert found == record


def test_the_last_ones_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2, 3, 3):
            checkpoints.save(step, tree(step), {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "3"]


def test_one_that_was_cut_off_is_never_loaded(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree(1), {})
        checkpoints.save(2, tree(2), {})
    # What a kill leaves: the unfinished name, some of the files.
    cut = tmp_path / "3.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "2", cut)
    (cut / "arrays" / "manifest.ocdbt").unlink()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == 2
        arrays = checkpoints.arrays(tree(0))
        checkpoints.save(3, tree(3), {})
    assert bits(arrays) == bits(tree(2))
    assert not cut.exists()
    # Files damaged later are an error with a way out.
    file = tmp_path / "3" / "arrays" / "_METADATA"
    file.write_bytes(file.read_bytes()[:10])
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match="without that"):
        checkpoints.arrays(tree(0))
    shutil.rmtree(tmp_path / "3")
    with Checkpoints(tmp_path) as checkpoints:
        assert bits(checkpoints.arrays(tree(0))) == bits(tree(2))


@pytest.mark.parametrize("left", [(), ("arrays",), ("arrays", "record", "commit_success.txt")])
def test_one_that_was_being_removed_goes(tmp_path, left):
    """Orbax removes an old checkpoint file by file, and a kill may come in between."""
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, tree(2), {})
    old = tmp_path / "1"
    shutil.copytree(tmp_path / "2", old)
    for part in old.iterdir():
        if part.name not in left:
            shutil.rmtree(part) if part.is_dir() else part.unlink()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == 2
        assert bits(checkpoints.arrays(tree(0))) == bits(tree(2))
    assert [path.name for path in tmp_path.iterdir()] == ["2"]
    # What a user put there is not removed.
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "mine.txt").touch()
    with pytest.raises(CheckpointError, match="holds '7', which is no checkpoint"):
        Checkpoints(tmp_path)


def test_what_cannot_be_restored_or_used(tmp_path):
    with Checkpoints(tmp_path / "a") as checkpoints:
        with pytest.raises(CheckpointError, match="holds no complete checkpoint"):
            checkpoints.record()
        checkpoints.save(1, tree(1), {})
        with pytest.raises(CheckpointError, match=r"a/1: the checkpoint cannot be read"):
            checkpoints.arrays({"other": np.zeros(3)})
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="file: cannot be used for checkpoints"):
        Checkpoints(tmp_path / "file")


SAVE_FOR_EVER = """
import sys
from pathlib import Path
from finetune.test_checkpoint import tree, Checkpoints
with Checkpoints(Path(sys.argv[1])) as checkpoints:
    for step in range(1, 10**6):
        checkpoints.save(step, tree(step, 100_000), {"step": step})
        print(step, flush=True)
"""


@pytest.mark.process
def test_a_kill_at_any_time_leaves_a_whole_checkpoint(tmp_path):
    delays = random.Random(0)
    process = shell.start("-c", SAVE_FOR_EVER, tmp_path, stdout=subprocess.PIPE)
    for line in process.stdout:
        if int(line) == 3:
            break
    time.sleep(delays.random() / 5)
    process.kill()
    said = [3, *map(int, process.communicate()[0].split())]
    with Checkpoints(tmp_path) as checkpoints:
        step = checkpoints.latest()
        arrays, record = checkpoints.arrays(tree(0, 100_000)), checkpoints.record()
    assert step in (said[-1], said[-1] + 1)
    assert record == {"step": step}
    assert bits(arrays) == bits(tree(step, 100_000))


def test_a_full_disk_is_one_error_and_loses_nothing(small_disk, capfd, monkeypatch):
    folder = small_disk / "c"
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, tree(1), {"step": 1})
        said = r"step 2 .*\(step 1 is intact\): the disk is full"
        with pytest.raises(CheckpointError, match=said + ": 7,\\d+,\\d+ bytes are needed, "):
            checkpoints.save(2, tree(2, 400_000), {"step": 2})
        # Others may fill the disk meanwhile.
        monkeypatch.setattr(
            "jaxtask.finetune.training.checkpoint.Checkpoints._check_room", lambda *_: None
        )
        with pytest.raises(CheckpointError, match=said + "$"):
            checkpoints.save(2, {"A": np.random.default_rng(0).random(10**6)}, {})
        assert [p.name for p in folder.iterdir()] == ["1"]
        assert bits(checkpoints.arrays(tree(0))) == bits(tree(1))
        checkpoints.save(2, tree(2), {"step": 2})
    assert capfd.readouterr().err == ""
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.record() == {"step": 2}


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_only_asks(number, raised):
    before = signal.signal(signal.SIGINT, signal.default_int_handler), signal.getsignal(number)
    try:
        with pytest.raises(raised) as end, StopOnSignal() as stop:  # noqa: PT012
            os.kill(os.getpid(), number)
            assert stop.asked == number
            stop.leave("after step 3")
        assert end.value.__notes__ == ["after step 3"]
        assert raised is KeyboardInterrupt or end.value.code == 143
        assert signal.getsignal(number) is before[1]
        assert not StopOnSignal().asked
        # One that comes too late for anybody to ask is not lost.
        with pytest.raises(raised), StopOnSignal():
            os.kill(os.getpid(), number)
    finally:
        signal.signal(signal.SIGINT, before[0])


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopOnSignal() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert not stop.asked
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_signals_are_left_alone():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with StopOnSignal() as stop:
            seen.append((stop.asked, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(0, before)]
