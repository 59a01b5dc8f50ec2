"""`.bin` files, written here without torch, and pickles that try to run something."""

import os
import pickle
import pickletools
import zipfile

import ml_dtypes
import numpy as np
import pytest

from adapters.adapter_files import WEIGHTS, peft_tensors
from adapters.torch_files import Tensor, torch_saver
from jaxtask.adapters import ModuleKey, load_adapters
from jaxtask.adapters.tensors import torch_zip as _torchzip
from jaxtask.errors import AdapterError

Q0 = ModuleKey(0, "self_attn.q_proj")


@pytest.fixture
def torch_save(monkeypatch):
    return torch_saver(monkeypatch)


@pytest.fixture
def bin_folder(write):
    folder = write()
    (folder / WEIGHTS).unlink()
    return folder


@pytest.mark.parametrize("stored", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
def test_values(torch_save, bin_folder, stored):
    tensors = {name: t.astype(stored) for name, t in peft_tensors().items()}
    torch_save({n: Tensor(t) for n, t in tensors.items()}, bin_folder / "adapter_model.bin")
    (adapter,) = load_adapters(bin_folder).adapters
    B, A = (tensors[f"{adapter.path(Q0)}.lora_{side}.weight"] for side in "BA")
    update = adapter.load(Q0)
    np.testing.assert_array_equal(update.B, B.astype(float))
    np.testing.assert_array_equal(update.A, A.astype(float))
    assert update.B.flags.c_contiguous


def test_views_of_one_storage(torch_save, bin_folder):
    base = np.arange(100, dtype=np.float32)
    state = {name: Tensor(np.ones(t.shape, np.float32)) for name, t in peft_tensors().items()}
    name = next(name for name in state if "lora_A" in name)
    state[name] = Tensor(base, 7, (4, 5), (2, 9))
    torch_save(state, bin_folder / "adapter_model.bin")
    (adapter,) = load_adapters(bin_folder).adapters
    expected = np.array([[base[7 + 2 * i + 9 * j] for j in range(5)] for i in range(4)])
    np.testing.assert_array_equal(adapter.load(Q0).A, expected)


def test_state_that_is_not_tensors(torch_save, bin_folder):
    path = bin_folder / "adapter_model.bin"
    torch_save([1, 2], path)
    with pytest.raises(AdapterError, match="holds a list"):
        load_adapters(bin_folder)
    torch_save({"a": 1}, path)
    with pytest.raises(AdapterError, match="entry 'a' is a int"):
        load_adapters(bin_folder)


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor(np.ones(10, np.float32), 0, (4, 5), (5, 1)),
        Tensor(np.ones(20, np.float32), 1, (4, 5), (5, 1)),
        Tensor(np.ones(20, np.float32), 0, (4, 5), (500, 1)),
    ],
)
def test_views_beyond_their_storage(torch_save, bin_folder, tensor):
    torch_save({"a.lora_A.weight": tensor}, bin_folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match="bytes of storage"):
        load_adapters(bin_folder)


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor(np.ones(20, np.float32), -1, (4, 5), (5, 1)),
        Tensor(np.ones(20, np.float32), 0, (4, -5), (5, 1)),
        Tensor(np.ones(20, np.float32), 0, (4, 5), (5,)),
    ],
)
def test_records_that_are_malformed(torch_save, bin_folder, tensor):
    torch_save({"a.lora_A.weight": tensor}, bin_folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match="damaged"):
        load_adapters(bin_folder)


class Exploit:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("where", ["value", "key", "root"])
@pytest.mark.parametrize("function", [os.mkdir, eval, exec, getattr, __import__])
def test_an_exploit_does_not_run(torch_save, bin_folder, tmp_path, where, function):
    target = tmp_path / "proof"
    code = f"__import__('os').mkdir({str(target)!r})"
    exploit = Exploit(function, str(target) if function is os.mkdir else code)
    if function is getattr:
        exploit = Exploit(getattr, "text", "upper")
    tensors = {name: Tensor(t) for name, t in peft_tensors().items()}
    state = {"value": {**tensors, "x": exploit}, "key": {exploit: 1}, "root": exploit}[where]
    torch_save(state, bin_folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match="nothing of it was executed"):
        load_adapters(bin_folder)
    assert not target.exists()


@pytest.mark.parametrize(
    "name", ["collections OrderedDict.fromkeys", "torch.serialization load", "numpy load"]
)
def test_names_near_the_allowed_ones(bin_folder, name):
    module, attribute = name.split()
    # protocol 4: STACK_GLOBAL would look up dotted attributes
    body = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, attribute))
    content = b"\x80\x04" + body + b"\x93."
    with zipfile.ZipFile(bin_folder / "adapter_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", content)
    with pytest.raises(AdapterError, match=f"asks for '{module}.{attribute}'"):
        load_adapters(bin_folder)


def test_an_honest_exploit_would_have_worked(tmp_path):
    """The exploit used above does run in a free unpickler: the test could fail."""
    target = tmp_path / "proof"
    pickle.loads(pickle.dumps(Exploit(os.mkdir, str(target))))
    assert target.exists()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "bare pickle"),
        (b"hello", "no ZIP archive"),
        (b"", "no ZIP archive"),
        (b"PK\x03\x04 and then nothing", "damaged or truncated"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    ],
)
def test_files_that_are_no_archive(bin_folder, content, what):
    path = bin_folder / "adapter_model.bin"
    path.write_bytes(content)
    with pytest.raises(AdapterError, match=what) as error:
        load_adapters(bin_folder)
    assert str(path) in str(error.value)


def test_truncated_archive(torch_save, bin_folder):
    path = bin_folder / "adapter_model.bin"
    torch_save({name: Tensor(t) for name, t in peft_tensors().items()}, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(AdapterError, match="damaged or truncated"):
        load_adapters(bin_folder)


def test_archives_that_torch_does_not_write(torch_save, bin_folder):
    path = bin_folder / "adapter_model.bin"
    state = {name: Tensor(t) for name, t in peft_tensors().items()}
    torch_save(state, path, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(AdapterError, match="is compressed"):
        load_adapters(bin_folder)
    torch_save(state, path, byteorder=b"big")
    with pytest.raises(AdapterError, match="big-endian"):
        load_adapters(bin_folder)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("something", b"")
    with pytest.raises(AdapterError, match="expected one"):
        load_adapters(bin_folder)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02K\x01")
    with pytest.raises(AdapterError, match="pickle in it is damaged"):
        load_adapters(bin_folder)


def text(word):
    return b"X" + len(word).to_bytes(4, "little") + word.encode()


_DOUBLED = b"K\x01" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(100))
BOMBS = {
    "a key of tuples of tuples": b"}" + _DOUBLED + b"K\x01s.",
    "a key doubled on the stack": b"}K\x01" + b"2\x86" * 60 + b"K\x01s.",
    "a value of tuples of tuples": b"}" + text("k") + _DOUBLED + b"s.",
    "tuples of tuples": _DOUBLED + b".",
    "a frozen set": b"(" + _DOUBLED + b"\x91.",
    "a set": b"\x8f(" + _DOUBLED + b"\x90.",
    "a memo of gigabytes": b"}r\xff\xff\xff\x0f" + text("k") + b"j\xff\xff\xff\x0fs.",
    "a text of gigabytes": b"X\xff\xff\xff\x7fabc.",
    "a text of 2^63 bytes": b"\x8d" + b"\xff" * 7 + b"\x7fabc.",
    "a number of gigabytes": b"\x8b\xff\xff\xff\x7f1.",
    "bytes": b"B\x03\x00\x00\x00abc.",
    "a list in itself": b"]q\x00h\x00a.",
    "a dictionary in itself": b"}q\x00" + text("k") + b"h\x00s.",
    "deep lists": b"]" * 300_000 + b"a" * 299_999 + b".",
    "deep tuples": b")" + b"\x85" * 300_000 + b".",
    "three million instructions": b"0".join([b"N"] * 1_500_000) + b".",
    "numbers for keys": b"}" + b"K\x01K\x02s" * 100_000 + b".",
    "a name of megabytes": b"}" + text("k" * 2_000_000) + b"K\x01s.",
    "a call with a million arguments": (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + b"N" * 1_000_000 + b"tR."
    ),
    "a call of a number": b"K\x01)R.",
    "marks without end": b"(" * 100_000 + b".",
    "a pop too many": b"N\x86.",
    "a value that is not there": b"h\x05.",
    "items of a tuple": b")" + text("k") + b"K\x01s.",
    "half a pair": b"}(" + text("k") + b"u.",
    "an extension": b"\x82\x01.",
    "a new object": b"ccollections\nOrderedDict\n)\x81.",
    "no end": b"}",
    "nothing": b"",
}


@pytest.mark.parametrize("program", BOMBS.values(), ids=BOMBS)
def test_programs_that_never_end(bin_folder, program, monkeypatch):
    """In bounded time: Python's own unpickler takes years for some, and gigabytes for others."""
    monkeypatch.setattr(_torchzip, "_MAX_STEPS", 350_000)  # so that those that reach it are short
    path = bin_folder
    with zipfile.ZipFile(path / "adapter_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + program)
    with pytest.raises(AdapterError) as found:
        load_adapters(path)
    said = str(found.value)
    assert "\n" not in said
    assert len(said) < 400


def test_room_for_a_pair_for_each_expert_of_a_large_model(torch_save, bin_folder):
    """Of 48 layers with three matrices of 128 experts each, as torch.save writes them."""
    path = bin_folder / "adapter_model.bin"
    modules = [f"{layer}.mlp.experts.{layer}.up_proj" for layer in range(500)]
    torch_save({name: Tensor(t) for name, t in peft_tensors(modules).items()}, path)
    with zipfile.ZipFile(path) as archive:
        program = archive.read("archive/data.pkl")
    times = 48 * 3 * 128 / len(modules)
    assert times * sum(1 for _ in pickletools.genops(program)) < _torchzip._MAX_STEPS
    assert times * len(program) < _torchzip._MAX_PICKLE
    assert times * 2 * len(modules) < _torchzip._MAX_TENSORS


def test_more_tensors_than_any_adapter_has(torch_save, bin_folder, monkeypatch):
    monkeypatch.setattr(_torchzip, "_MAX_TENSORS", 3)
    tensors = {name: Tensor(t) for name, t in peft_tensors().items()}
    torch_save(tensors, bin_folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match=r"holds 4 tensors, expected 3 at most"):
        load_adapters(bin_folder)


def test_more_entries_than_any_adapter_has(bin_folder, monkeypatch):
    monkeypatch.setattr(_torchzip._Bounded, "most", 2000)
    with zipfile.ZipFile(bin_folder / "adapter_model.bin", "w") as archive:
        for n in range(100):
            archive.writestr(f"archive/data/{n}", b"")
    with pytest.raises(AdapterError, match=r"damaged or truncated: .*too many entries"):
        load_adapters(bin_folder)


def test_an_encrypted_archive(bin_folder):
    path = bin_folder
    with zipfile.ZipFile(path / "adapter_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    content = bytearray((path / "adapter_model.bin").read_bytes())
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.find(mark) + at] |= 1
    (path / "adapter_model.bin").write_bytes(content)
    with pytest.raises(AdapterError, match="encrypted"):
        load_adapters(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("entry", ["archive/byteorder", "archive/version", "other"])
def test_an_entry_that_expands(torch_save, bin_folder, entry):
    torch_save({}, bin_folder / "adapter_model.bin")
    with zipfile.ZipFile(bin_folder / "adapter_model.bin", "a") as archive:
        archive.writestr(entry, b"\0" * (1 << 24), zipfile.ZIP_DEFLATED)
    with pytest.raises(AdapterError, match=r"is compressed|twice"):
        load_adapters(bin_folder)


def test_a_view_that_expands(torch_save, bin_folder):
    tensors = {name: Tensor(t) for name, t in peft_tensors().items()}
    name = next(iter(tensors))
    base = np.zeros(4, np.float32)
    tensors[name] = Tensor(base, 0, (1 << 31, 1 << 31), (0, 0))
    torch_save(tensors, bin_folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match="needs"):
        load_adapters(bin_folder)
