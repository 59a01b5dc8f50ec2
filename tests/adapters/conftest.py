"""Fixtures: adapter folders on disk, and the folder of real adapters."""

import json

import pytest
from safetensors.numpy import save_file

from adapters.adapter_files import CONFIG, WEIGHTS, peft_tensors
from real_data import real_data


@pytest.fixture
def real_adapters():
    """The folder of trained adapters; skips where it is not there."""
    return real_data("adapters")


@pytest.fixture
def write(tmp_path):
    """`write(tensors, name, **config)` makes an adapter folder and returns it."""

    def _write(tensors=None, name="adapter", **config):
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
        save_file(peft_tensors() if tensors is None else tensors, folder / WEIGHTS)
        return folder

    return _write
