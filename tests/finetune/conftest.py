"""Fixtures: the folder of real data, and a disk that is soon full."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def real_data():
    """The folder of real data; skips where it is not there."""
    folder = Path(os.environ.get("JAXTASK_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set JAXTASK_DATA to the data folder")
    return folder


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
