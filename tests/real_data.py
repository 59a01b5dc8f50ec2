"""Real data for trying the software, which is not part of the repository."""

import os
from pathlib import Path

import pytest


def real_data(name):
    """The folder of this name in the data folder; skips where it is not there."""
    root = os.environ.get("JAXTASK_DATA") or Path(__file__).parents[2] / "shared" / "data"
    folder = Path(root) / name
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set JAXTASK_DATA to the data folder")
    return folder
