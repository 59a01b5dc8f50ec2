"""From paths to tasks and their names."""

import ast
import gzip
import io
import json
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from adapters.adapter_files import WEIGHTS, peft_tensors
from jaxtask.adapters import load_adapters
from jaxtask.errors import AdapterError


def test_folder_file_and_config_name_the_folder(write):
    folder = write()
    for path in (folder, str(folder), f"{folder}/", folder / WEIGHTS):
        assert load_adapters(path).tasks == ("adapter",)
    assert load_adapters(folder / "adapter_config.json").tasks == ("adapter",)


def test_relative_paths(write, monkeypatch):
    folder = write()
    monkeypatch.chdir(folder)
    assert load_adapters(".").tasks == ("adapter",)
    assert load_adapters(WEIGHTS).tasks == ("adapter",)


def test_other_file_names(write):
    folder = write()
    (folder / WEIGHTS).rename(folder / "mine.safetensors")
    assert load_adapters(folder / "mine.safetensors").tasks == ("mine",)


def test_folder_of_adapters(write, tmp_path):
    write(name="runs/b/checkpoint-2")
    write(name="runs/a")
    write(name="runs/a/checkpoint-1")  # inside an adapter: not searched
    write(name="runs/.hidden/c")
    (tmp_path / "runs" / "logs").mkdir()
    assert load_adapters(tmp_path / "runs").tasks == ("a", "b/checkpoint-2")


def test_broken_adapter_below_a_folder_is_an_error(write, tmp_path):
    write(name="runs/a")
    (write(name="runs/b") / WEIGHTS).unlink()
    with pytest.raises(AdapterError, match=r"runs/b: has adapter_config\.json but no weights"):
        load_adapters(tmp_path / "runs")


def test_pattern(write, tmp_path):
    write(name="runs/a")
    write(name="runs/b")
    (tmp_path / "runs" / "notes.txt").write_text("")
    bank = load_adapters(f"{tmp_path}/runs/*")
    assert bank.tasks == ("a", "b")
    assert len(bank.notes) == 1
    assert "notes.txt, which is no adapter" in bank.notes[0]
    assert load_adapters(f"{tmp_path}/**/{WEIGHTS}").tasks == ("a", "b")
    assert load_adapters(f"{tmp_path}/**").tasks == ("runs/a", "runs/b")
    with pytest.raises(AdapterError, match=r"matches only .*notes\.txt"):
        load_adapters(f"{tmp_path}/runs/*.txt")
    with pytest.raises(AdapterError, match="matches nothing"):
        load_adapters(f"{tmp_path}/x*")


def test_a_folder_with_pattern_signs_in_its_name(write):
    assert load_adapters(write(name="run[1]")).tasks == ("run[1]",)


def test_clashing_names_get_the_shortest_path(write):
    folders = [write(name=name) for name in ("x/a/last", "x/b/last", "y/b/last", "y/c/other")]
    assert load_adapters(folders).tasks == ("a/last", "x/b/last", "y/b/last", "other")


def test_mapping(write, tmp_path):
    folder = write(name="runs/a")
    write(name="runs/b")
    bank = load_adapters({"one": folder, "again": folder, "many": tmp_path / "runs"})
    assert bank.tasks == ("one", "again", "many/a", "many/b")


def test_the_same_file_twice(write, tmp_path):
    folder = write()
    link = tmp_path / "link"
    os.symlink(folder, link)
    for other in (folder, link):
        with pytest.raises(AdapterError, match="was given twice"):
            load_adapters([folder, other])


def test_empty_folder(tmp_path):
    with pytest.raises(AdapterError, match="holds no adapter"):
        load_adapters(tmp_path)
    (tmp_path / "style.safetensors").write_bytes(b"")
    with pytest.raises(AdapterError, match=r"name the file itself"):
        load_adapters(tmp_path)


@pytest.mark.parametrize("source", [[], {}])
def test_nothing(source):
    with pytest.raises(AdapterError, match="no adapter was given"):
        load_adapters(source)


def test_no_such_path(tmp_path):
    with pytest.raises(AdapterError, match="no such file or folder"):
        load_adapters(tmp_path / "nowhere")
    (tmp_path / "text.txt").write_text("")
    with pytest.raises(AdapterError, match="is no adapter file"):
        load_adapters(tmp_path / "text.txt")


@pytest.mark.parametrize(("suffix", "what"), [("gguf", "GGUF"), ("nemo", "NeMo")])
def test_other_files_are_refused_by_their_endings(tmp_path, suffix, what):
    (tmp_path / f"lora.{suffix}").write_bytes(b"anything")
    for path in (tmp_path / f"lora.{suffix}", tmp_path):
        with pytest.raises(AdapterError, match=what):
            load_adapters(path)


def tar():
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model_config.yaml"))
    return made.getvalue()


def torch_zip():
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    return made.getvalue()


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pt", "", ".zip"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"GGUF\3\0\0\0", "GGUF file"),
        (b"algg\1\0\0\0", "GGML file"),
        (tar(), "tar archive, as those of NVIDIA NeMo"),
        (gzip.compress(b"x", mtime=0), "gzip"),
        (b"\n<!DOCTYPE html><title>Log in</title>", "web page"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
    ],
)
def test_other_files_are_refused_by_their_contents(tmp_path, suffix, content, what):
    (tmp_path / f"lora{suffix}").write_bytes(content)
    with pytest.raises(AdapterError, match=f"lora{suffix}: is .*{what}"):
        load_adapters(tmp_path / f"lora{suffix}")


@pytest.mark.parametrize("length", [0x1088B1F, 0x8B1F])
def test_a_header_whose_length_looks_like_another_kind(write, length):
    file = write() / WEIGHTS
    content = file.read_bytes()
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]
    padded = header + b" " * (length - len(header))
    file.write_bytes(length.to_bytes(8, "little") + padded + content[8 + len(header) :])
    assert file.read_bytes()[:2] == b"\x1f\x8b"
    assert len(load_adapters(file.parent).modules) == 2


def test_wrong_endings(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(torch_zip())
    save_file(peft_tensors(), tmp_path / "b.bin")
    with pytest.raises(AdapterError, match=r"should end with \.bin$"):
        load_adapters(tmp_path / "a.safetensors")
    with pytest.raises(AdapterError, match=r"should end with \.safetensors, not \.bin$"):
        load_adapters(tmp_path / "b.bin")


def test_safetensors_win_over_bin(write):
    folder = write()
    (folder / "adapter_model.bin").write_bytes(b"rubbish")
    (adapter,) = load_adapters(folder).adapters
    assert "adapter_model.bin is there too" in adapter.provenance["notes"][0]


@pytest.fixture
def sharded(write):
    """An adapter in two parts with its index, and the same in one."""
    folder, tensors = write(name="parts"), peft_tensors()
    (folder / WEIGHTS).unlink()
    places = {}
    for i, name in enumerate(tensors):
        places[name] = f"adapter_model-0000{i % 2 + 1}-of-00002.safetensors"
    for file in {*places.values()}:
        save_file({n: t for n, t in tensors.items() if places[n] == file}, folder / file)
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": places}))
    return folder, places


def test_shards_are_read_through_their_index(write, sharded):
    folder, places = sharded
    (whole,) = load_adapters(write()).adapters
    for path in (folder, folder / f"{WEIGHTS}.index.json"):
        (adapter,) = load_adapters(path).adapters
        assert adapter.name == "parts"
        assert {*adapter.modules} == {*whole.modules}
        for key in whole.modules:
            np.testing.assert_array_equal(adapter.load(key).dense(), whole.load(key).dense())
    with pytest.raises(AdapterError, match="one of several parts: give its folder"):
        load_adapters(folder / next(iter(places.values())))


@pytest.mark.parametrize("config", [True, False])
def test_shards_without_their_index(sharded, config):
    folder, places = sharded
    (folder / f"{WEIGHTS}.index.json").unlink()
    if not config:
        (folder / "adapter_config.json").unlink()
    with pytest.raises(AdapterError, match=r"'adapter_model-00001-.* whose index is missing"):
        load_adapters(folder)
    with pytest.raises(AdapterError, match=r"index \(.*\) is missing beside it"):
        load_adapters(folder / places.popitem()[1])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda places: places.popitem() and None, "has the tensor"),
        (lambda places: places.update(x=places[next(iter(places))]), "lacks the tensor 'x'"),
        (lambda places: places.update(x="other.safetensors"), "cannot be read"),
        (lambda places: places.update(x="../other.safetensors"), "weight_map: the file"),
        (lambda places: places.update(x="code.py"), "is no .safetensors"),
        (lambda places: places.clear(), "expected a JSON object whose 'weight_map'"),
    ],
)
def test_shards_that_are_not_as_the_index_says(sharded, change, what):
    folder, places = sharded
    change(places)
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(AdapterError, match=what):
        load_adapters(folder)


def test_what_is_found_but_no_adapter_is_left_out_too(write, tmp_path, sharded):
    """As what cannot be read: one error names all, and the rest is read on request."""
    good, (parts, places) = write(name="runs/good"), sharded
    (write(name="runs/bare") / WEIGHTS).unlink()
    write(name="runs/damaged", r="x")
    shards = f"{parts}/*-0000?-of-*"
    given = [tmp_path / "runs", tmp_path / "absent", shards, f"{good}\0"]
    with pytest.raises(AdapterError, match=r"^6 of 7 adapters cannot be read") as error:
        load_adapters(given)
    for told in ("runs/bare: has", "config.json: r", "absent: there", *places.values(), "a NUL"):
        assert told in str(error.value)
    bank = load_adapters(given, skip_unreadable=True)
    assert bank.tasks == ("good",)
    assert [note.partition(":")[0] for note in bank.notes] == ["skipped"] * 6
    bank = load_adapters({"a": good, "b": tmp_path / "absent"}, skip_unreadable=True)
    assert bank.tasks == ("a",)
    with pytest.raises(AdapterError, match=r"^[^;]*absent: there is no such file or folder$"):
        load_adapters(tmp_path / "absent", skip_unreadable=True)


def test_whole_models_are_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    save_file({"w": np.ones((2, 2))}, tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(AdapterError, match=r"model-00001-of-00002\.safetensors is a whole mod"):
        load_adapters(tmp_path)


def test_adapters_below_an_adapter_are_named(write):
    root = write(name="run")
    write(name="run/checkpoint-1000")
    write(name="run/checkpoint-500")
    (adapter,) = load_adapters(root).adapters
    (note,) = adapter.provenance["notes"]
    assert note == "2 more adapter(s) below it were not read: checkpoint-500, checkpoint-1000."


def test_bases_are_checked(write, tmp_path):
    write(name="runs/a")
    write(name="runs/b", base_model_name_or_path="org/other")
    with pytest.raises(AdapterError, match=r"'a' was trained on 'org/base' and adapter 'b'"):
        load_adapters(tmp_path / "runs")
    assert len(load_adapters(tmp_path / "runs", allow_base_mismatch=True).tasks) == 2


@pytest.fixture
def cache(write, tmp_path, monkeypatch):
    """A Hugging Face cache with one adapter, as the Hub client lays it out."""
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import constants

    root = tmp_path / "hub" / "models--org--tuned"
    commit = "0" * 40
    write(name=f"hub/models--org--tuned/snapshots/{commit}")
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return root


def test_hub_id_in_the_cache(cache):
    (adapter,) = load_adapters("org/tuned").adapters
    assert adapter.name == "org/tuned"
    assert str(cache) in adapter.provenance["source"]


def test_hub_id_that_is_not_cached(cache):
    with pytest.raises(
        AdapterError,
        match=r"'org/absent' is neither .*nothing is downloaded",
    ):
        load_adapters("org/absent")


def test_hub_id_that_is_none(cache):
    with pytest.raises(AdapterError, match="nor a valid Hub id"):
        load_adapters("org/a..b")


def test_hub_id_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(AdapterError, match="install huggingface_hub"):
        load_adapters("org/absent")


def test_imports_stay_light():
    """Reading adapters must not pay for JAX, torch or transformers: NumPy is enough.

    safetensors reads the files, google_crc32c is a digest of them, ml_dtypes only teaches NumPy the
    type bfloat16, and huggingface_hub is allowed inside a function only.
    """
    folder = Path(load_adapters.__code__.co_filename).parent
    files = sorted(folder.glob("*.py"))
    assert len(files) > 10
    known = {"numpy", "ml_dtypes", "safetensors", "google_crc32c", "jaxtask"}
    allowed = known | sys.stdlib_module_names
    for file in files:
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [node.module]
                light = (
                    "adapters.",
                    "errors",
                    "folders",
                    "names",
                    "patterns",
                    "text_files",
                    "version",
                )
                own = node.module.startswith(tuple(f"jaxtask.{n}" for n in (*light, "version")))
                assert own or not node.module.startswith("jaxtask"), (file.name, node.module)
            late = {"huggingface_hub"} if node not in tree.body else set()
            roots = {name.partition(".")[0] for name in names}
            assert roots <= allowed | late, (file.name, roots)


def test_directional_is_passed_on(write):
    folder = write({k: v * np.float32(2) for k, v in peft_tensors().items()}, use_dora=True)
    with pytest.raises(AdapterError, match="directional=True"):
        load_adapters(folder)
    assert load_adapters(folder, directional=True).adapters[0].provenance["approximate"]
