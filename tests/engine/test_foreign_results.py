"""Results of strangers: only our own layout is opened, and no chunk expands beyond its shape."""

import json
import os
import shutil
import zipfile

import numpy as np
import pytest

import jaxtask as jt


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    draw = np.random.default_rng(0)
    bank = jt.AdapterBank.from_factors(
        {
            name: {
                f"layers.{n}.q": (draw.standard_normal((9, 2)), draw.standard_normal((2, 8)))
                for n in range(2)
            }
            for name in "ab"
        }
    )
    path = tmp_path_factory.mktemp("foreign") / "r.zarr"
    jt.compare(bank, metrics=["cosine", "rec"], keep=["spectra", "chance"], out=path)
    return path


@pytest.fixture
def copy(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "r.zarr")
    return tmp_path / "r.zarr"


def refused(path):
    with pytest.raises(jt.ResultError) as found:
        jt.open_result(path)
    said = str(found.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    assert len(said) < 500
    return said


ARRAY = {
    "a codec that unpickles": {"codecs": [{"name": "numcodecs.pickle"}, {"name": "bytes"}]},
    "another codec": {"codecs": [{"name": "bytes"}, {"name": "gzip"}]},
    "no codecs": {"codecs": None},
    "a shape of text": {"shape": ["2.0", 1, 2, 2]},
    "a shape of floats": {"shape": [2.0, 1, 2, 2]},
    "truth for a number": {"shape": [2, True, 2, 2]},
    "a negative shape": {"shape": [-2, 1, 2, 2]},
    "a huge shape": {"shape": [2, 1, 2**40, 2**40]},
    "another length": {"shape": [3, 1, 2, 2]},
    "a chunk of none": {
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [0] * 4}}
    },
    "a huge chunk": {
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 1, 2**30, 2]}}
    },
    "another grid": {"chunk_grid": {"name": "rectilinear", "configuration": {}}},
    "a name twice": {"dimension_names": ["layer", "layer", "source", "target"]},
    "no names": {"dimension_names": None},
    "other names": {"dimension_names": ["depth", "module", "source", "target"]},
    "objects": {"data_type": "object"},
    "a type with settings": {"data_type": {"name": "fixed_length_utf32"}},
    "another place": {
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/../"}}
    },
    "transformers": {"storage_transformers": [{"name": "x"}]},
    "an extension": {"extension": {"must_understand": True}},
    "another version": {"zarr_format": 2},
    "a fill of names": {"fill_value": {"a": 1}},
}  # fmt: skip


@pytest.mark.parametrize("change", ARRAY.values(), ids=ARRAY)
def test_arrays_that_we_do_not_write(copy, change):
    place = copy / "cosine" / "zarr.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | change))
    assert "cosine" in refused(copy)


ATTRIBUTES = [
    {"adapters": "{"}, {"adapters": "[1]"}, {"adapters": 7}, {"adapters": '{"adapters": [3]}'},
    {"metrics": "nope"}, {"metrics": "[" * 5000}, {"versions": "[]"}, {"variables": 3},
    {"variables": [{}]}, {"dtype": 3}, {"keep": None}, {"format": "jaxtask result 9"},
]  # fmt: skip


@pytest.mark.parametrize("change", ATTRIBUTES, ids=str)
def test_attributes_that_we_do_not_write(copy, change):
    place = copy / "zarr.json"
    group = json.loads(place.read_text())
    place.write_text(json.dumps(group | {"attributes": group["attributes"] | change}))
    refused(copy)


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff\xfe", b"3", b'{"zarr_format": 3}'])
def test_metadata_that_is_none(copy, content):
    for place in ("zarr.json", "cosine/zarr.json"):
        before = (copy / place).read_bytes()
        (copy / place).write_bytes(content)
        refused(copy)
        (copy / place).write_bytes(before)
    jt.open_result(copy).close()


def chunk_of(path, name="cosine"):
    return next(p for p in sorted((path / name / "c").rglob("*")) if p.is_file())


def test_files_that_are_no_chunks(copy):
    from numcodecs import Zstd

    chunk = chunk_of(copy)
    whole = chunk.read_bytes()
    bomb = Zstd().encode(b"\0" * (1 << 26))
    for content in (b"", whole[:5], os.urandom(40), bomb, whole + b"\0" * 9000):
        chunk.write_bytes(content)
        assert "cosine" in refused(copy)
    for make in (
        lambda: os.mkfifo(chunk),
        lambda: chunk.symlink_to("/dev/zero"),
        lambda: chunk.symlink_to("/etc/hostname"),
    ):
        chunk.unlink()
        make()
        assert "not a regular file" in refused(copy)
    chunk.unlink()
    jt.open_result(copy).close()  # a chunk that is not there is all NaN


def test_names_expand_no_further_than_names(copy):
    from numcodecs import Zstd

    chunk_of(copy, "source").write_bytes(Zstd().encode(b"\0" * (1 << 29)))
    assert "expands to" in refused(copy)


def test_version_2_is_not_opened(copy):
    shutil.rmtree(copy / "cosine")
    (copy / "cosine").mkdir()
    (copy / "cosine" / ".zarray").write_text(json.dumps({"filters": [{"id": "pickle"}]}))
    assert "version 2" in refused(copy)


def test_coordinates_are_there_once(copy):
    shutil.rmtree(copy / "source")
    assert "no coordinate 'source'" in refused(copy)


def zipped(folder, path, **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        for part in sorted(folder.rglob("*")):
            if part.is_file():
                file.write(part, part.relative_to(folder))
    return path


def test_zip_files(copy, tmp_path):
    good = zipped(copy, tmp_path / "good.zip", compression=zipfile.ZIP_DEFLATED)
    jt.open_result(good).close()
    content = bytearray(good.read_bytes())
    (tmp_path / "half.zip").write_bytes(content[: len(content) // 2])
    refused(tmp_path / "half.zip")
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = content.find(mark)
        while start >= 0:
            content[start + at] |= 1
            start = content.find(mark, start + 4)
    (tmp_path / "secret.zip").write_bytes(content)
    assert "encrypted" in refused(tmp_path / "secret.zip")
    chunk_of(copy).write_bytes(b"\0" * (1 << 24))
    assert "cosine" in refused(
        zipped(copy, tmp_path / "bomb.zip", compression=zipfile.ZIP_DEFLATED)
    )
    other = zipped(copy, tmp_path / "xz.zip", compression=zipfile.ZIP_LZMA)
    assert "neither stored nor deflated" in refused(other)


def test_what_older_versions_wrote_is_opened(whole, tmp_path):
    ds = jt.open_result(whole)
    jt.save(ds.load(), tmp_path / "saved.zarr")
    again = jt.open_result(tmp_path / "saved.zarr").load()
    assert ds.load().equals(again)
