"""Damaged safetensors files: each gives one AdapterError that names the file."""

import json
import os

import numpy as np
import pytest

from adapters.adapter_files import WEIGHTS, peft_tensors
from jaxtask.adapters import load_adapters
from jaxtask.adapters.tensors import safetensors as _safetensors
from jaxtask.adapters.tensors.safetensors import read_header
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


DAMAGED = "is not a safetensors file, or is truncated or damaged: it has [0-9]+ bytes, and the"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\xff" * 64, DAMAGED),
        (raw(b"not json"), DAMAGED),
        (raw(b"\xff\xfe"), DAMAGED),
        (raw(b'{"a": 1, "a": 2}'), DAMAGED),
        (raw([]), DAMAGED),
        (raw({"__metadata__": 3}), DAMAGED),
        (raw({"a": 3}), DAMAGED),
        (
            raw({"a": f32([1], 0, 4), "b": f32([1], 4, 8) | {"dtype": "I4"}}),
            "'b' is stored as 'I4'",
        ),
        (raw({"a": f32([1], 0, 4) | {"dtype": {}}}), "'a' is stored as {}"),
        (raw({"a": f32([-1], 0, 4)}), "'a' has the shape \\[-1\\]"),
        (raw({"a": f32([1.0], 0, 4)}, b"0000"), "'a' has the shape"),
        (raw({"a": f32(None, 0, 4)}, b"0000"), "'a' has the shape None"),
        (raw({"a": f32([2], 0, 4)}, b"0000"), "'a' of shape .* does not take"),
        (raw({"a": f32([2**62, 2**62], 0, 4)}, b"0000"), "'a' of shape .* does not take"),
        (raw({"a": f32([10**300] * 16, 0, 4)}, b"0000"), "'a' of shape .* does not take"),
        (raw({"a": f32([1] * 50, 0, 4)}, b"0000"), "'a' has 50 dimensions"),
        (raw({"a": f32([1] * 50, 0, 5)}, b"00000"), "'a' has 50 dimensions"),
        (raw({"a": f32([2**40], 0, 2**42)}, b"0000"), DAMAGED),
        (raw({"a": f32([1], 0, 4)}, b"00000"), DAMAGED),
        (raw({"a": f32([1], 4, 8)}, b"0" * 8), DAMAGED),
        (raw({"a": f32([1], 0, 4), "b": f32([1], 2, 6)}, b"0" * 6), DAMAGED),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    ],
)
def test_damaged(write, content, what):
    path = write() / WEIGHTS
    path.write_bytes(content)
    with pytest.raises(AdapterError, match=what) as error:
        load_adapters(path.parent)
    assert str(path) in str(error.value)


def test_a_file_that_is_a_folder(write):
    path = write() / WEIGHTS
    path.unlink()
    path.mkdir()
    with pytest.raises(AdapterError, match="cannot be read") as error:
        read_header(path)
    assert str(path) in str(error.value)


def test_parts_and_other_tensors_of_the_same_size(write):
    """A part is what the whole tensor has there; a file replaced by another one is noticed."""
    path = write({"a": np.arange(12, dtype=np.float32).reshape(4, 3)}) / WEIGHTS
    tensor = read_header(path)[0]["a"]
    whole = tensor.read()
    np.testing.assert_array_equal(tensor.raw(slice(1, 3)), whole[1:3])
    np.testing.assert_array_equal(tensor.raw(slice(None), slice(2, 3)), whole[:, 2:3])
    write({"a": np.zeros((3, 4), np.float32)})
    with pytest.raises(AdapterError, match=r"'a' was F32 \(4, 3\) and is F32 \(3, 4\)"):
        tensor.read()
    write({"b": np.zeros((3, 4), np.float32)})
    with pytest.raises(AdapterError, match="cannot be read any more"):
        tensor.read()


def test_many_files_need_no_descriptors(write):
    """A thousand adapters stay open at once under the usual limit of 1024 descriptors."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc here")
    before = len(os.listdir("/proc/self/fd"))
    tensors = [read_header(write(name=f"t{n}") / WEIGHTS)[0] for n in range(50)]
    for stored in tensors:
        next(iter(stored.values())).read()
    assert len(os.listdir("/proc/self/fd")) == before


def test_more_tensors_than_any_adapter_has(write, monkeypatch):
    folder = write()
    monkeypatch.setattr(_safetensors, "_MOST_TENSORS", 3)
    with pytest.raises(AdapterError, match=r"holds 4 tensors, expected 3 at most"):
        load_adapters(folder)
