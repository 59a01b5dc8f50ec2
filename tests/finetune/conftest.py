"""Fixtures: the folder of real data."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def real_data():
    """The folder of real data; skips where it is not there."""
    folder = Path(os.environ.get("JAXTASK_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set JAXTASK_DATA to the data folder")
    return folder
