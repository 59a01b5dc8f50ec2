"""Damaged safetensors files: each gives one AdapterError that names the file."""

import json

import numpy as np
import pytest

from adapters.adapter_files import WEIGHTS, peft_tensors
from jaxtask.adapters import load_adapters
from jaxtask.adapters._safetensors import read_header
from jaxtask.errors import AdapterError


def test_header_agrees_with_the_package(write):
    from safetensors import safe_open

    folder = write({**peft_tensors(), "x": np.ones((), np.int16)}, modules_to_save=["x"])
    tensors, _ = read_header(folder / WEIGHTS)
    with safe_open(folder / WEIGHTS, "np") as file:
        assert set(tensors) == set(file.keys())
        for name, tensor in tensors.items():
            theirs = file.get_slice(name)
            assert list(tensor.shape) == theirs.get_shape()
            assert tensor.dtype == theirs.get_dtype()
            if tensor.dtype == "F32":
                np.testing.assert_array_equal(tensor.read(), file.get_tensor(name))


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1])
def test_truncated(write, keep):
    path = write() / WEIGHTS
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    with pytest.raises(AdapterError, match="truncated"):
        load_adapters(path.parent)


def raw(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def f32(shape, begin, end):
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\xff" * 64, "is not a safetensors file"),
        (raw(b"not json"), "not valid JSON"),
        (raw(b"\xff\xfe"), "not valid JSON"),
        (raw(b'{"a": 1, "a": 2}'), "a key occurs twice"),
        (raw([]), "not a JSON object"),
        (raw({"__metadata__": 3}), "metadata is not a JSON object"),
        (raw({"a": 3}), "tensor 'a' has no valid"),
        (raw({"a": f32([-1], 0, 4)}), "tensor 'a' has no valid"),
        (raw({"a": f32([1.0], 0, 4)}, b"0000"), "tensor 'a' has no valid"),
        (raw({"a": f32([2], 0, 4)}, b"0000"), "needs 8 bytes"),
        (raw({"a": f32([1], 0, 4)}, b"00000"), "too long"),
        (raw({"a": f32([1], 4, 8)}, b"0" * 8), "hole"),
        (raw({"a": f32([1], 0, 4), "b": f32([1], 2, 6)}, b"0" * 6), "overlap"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    ],
)
def test_damaged(write, content, what):
    path = write() / WEIGHTS
    path.write_bytes(content)
    with pytest.raises(AdapterError, match=what) as error:
        load_adapters(path.parent)
    assert str(path) in str(error.value)
