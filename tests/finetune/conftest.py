"""Fixtures: programs compiled quickly, and a disk that is soon full."""

import shutil
import subprocess

import jax
import pytest

_QUICK = "jax_disable_most_optimizations"


@pytest.fixture(scope="package", autouse=True)
def compile_quickly():
    """Here programs are compiled to be run once or twice, so optimising them takes too long.

    Also in processes that tests start, whose numbers must be the same to the last bit.
    """
    before = jax.config.values[_QUICK]
    jax.config.update(_QUICK, True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_QUICK.upper(), "1")
        yield
    jax.config.update(_QUICK, before)


@pytest.fixture
def compile_fully():
    """Programs as users have them."""
    jax.config.update(_QUICK, False)
    yield
    jax.config.update(_QUICK, True)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB; skips where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
