"""Digests: equal for equal numbers, wherever they are; another for any change that counts."""

import os

import numpy as np
import pytest

from adapters.adapter_files import WEIGHTS, peft_tensors
from jaxtask.adapters import AdapterBank, load_adapters
from jaxtask.errors import AdapterError


def digest(folder):
    (adapter,) = load_adapters(folder).adapters
    return adapter.digest()


def test_a_copy_has_the_same(write):
    assert digest(write(name="one")) == digest(write(name="two"))


def test_one_bit_in_one_tensor_changes_it_whatever_the_date(write):
    folder = write()
    before, state = digest(folder), (folder / WEIGHTS).stat()
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-3] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    os.utime(folder / WEIGHTS, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (folder / WEIGHTS).stat().st_size == state.st_size
    assert digest(folder) != before


def test_scaling_changes_it_and_a_note_does_not(write):
    alpha = digest(write(name="one", lora_alpha=16))
    assert digest(write(name="two", lora_alpha=32)) != alpha
    assert digest(write(name="three", lora_alpha=16, task_type="CAUSAL_LM")) == alpha


def test_arrays_in_memory():
    rng = np.random.default_rng(0)
    B, A = rng.standard_normal((6, 2), "f"), rng.standard_normal((2, 5), "f")

    def of(B, A, key="layers.0.q"):
        return AdapterBank.from_factors({"a": {key: (B, A)}}).adapters[0].digest()

    assert of(B, A) == of(B.copy(order="F"), A.copy())
    others = [
        of(np.nextafter(B, np.float32(9)), A),
        of(B.astype(np.float64), A),
        of(B, A, "layers.1.q"),
        of(B[:, ::-1], A),
    ]
    assert len({of(B, A), *others}) == 5


def test_a_file_that_is_gone(write):
    folder = write(peft_tensors())
    (adapter,) = load_adapters(folder).adapters
    (folder / WEIGHTS).unlink()
    with pytest.raises(AdapterError, match=WEIGHTS):
        adapter.digest()


def test_reordered_is_the_same_bank():
    rng = np.random.default_rng(0)
    update = rng.standard_normal((6, 2), "f"), rng.standard_normal((2, 5), "f")
    keys = {"a": "layers.0.q", "b": "layers.1.q", "c": "layers.0.q"}
    bank = AdapterBank.from_factors({n: {key: update} for n, key in keys.items()}, base_model="m")
    again = bank.reordered(["c", "a", "b"])
    assert again.tasks == ("c", "a", "b")
    assert again.modules == bank.modules
    assert (again.base_model, again.notes) == (bank.base_model, bank.notes)
    assert [again.present(key).tolist() for key in again.modules] == [[0, 1], [2]]
