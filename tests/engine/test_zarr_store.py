"""Results on disk: the same numbers, labelled, complete or not there."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr

import jaxtask as jt
from makers import random_bank


def bank(tasks=3, seed=0):
    def shapes(t):
        own = (20, 24, 2 + t % 2)
        return {"layers.0.q": own, "layers.3.q": own, "head": (20, 24, 2)}

    return random_bank([f"task {t}" for t in range(tasks)], shapes, seed)


@pytest.fixture(scope="module")
def result():
    return jt.compare(bank(), keep=["angles", "spectra"])


def test_labels(result):
    assert result["layer"].values.tolist() == [-1, 0, 3]
    assert result["module"].values.tolist() == ["head", "q"]
    assert result["source"].values.tolist() == ["task 0", "task 1", "task 2"]
    assert result["cosine"].dims == ("layer", "module", "source", "target")
    assert result["rank"].dims == ("layer", "module", "task")
    assert result["angles_in"].dims == ("layer", "module", "source", "target", "component")
    # A module type that a layer does not have is missing, not zero.
    assert np.isnan(result["cosine"].sel(layer=-1, module="q")).all()
    assert not result["valid"].sel(layer=-1, module="q").any()
    assert result["valid"].sel(layer=0, module="q").all()


def test_provenance(result):
    assert json.loads(result.attrs["versions"]).keys() == {
        "jaxtask",
        "jax",
        "jaxlib",
        "numpy",
        "python",
    }
    assert json.loads(result.attrs["adapters"])["tasks"] == ["task 0", "task 1", "task 2"]
    assert result.attrs["dtype"] == "float32"


def test_written_while_comparing_equals_returned(result, tmp_path):
    streamed = jt.compare(bank(), keep=["angles", "spectra"], out=tmp_path / "r.zarr")
    assert json.loads(streamed.attrs.pop("digests")).keys() == {"task 0", "task 1", "task 2"}
    xr.testing.assert_identical(streamed.load(), result)
    assert list(streamed.data_vars) == list(result.data_vars)
    assert [p.name for p in tmp_path.iterdir()] == ["r.zarr"]


def test_save_and_open(result, tmp_path):
    jt.save(result, tmp_path / "r.zarr")
    back = jt.open_result(tmp_path / "r.zarr")
    xr.testing.assert_identical(back.load(), result)
    assert list(back.data_vars) == list(result.data_vars)
    with pytest.raises(jt.ResultError, match="exists"):
        jt.save(result, tmp_path / "r.zarr")
    jt.save(result[["cosine"]], tmp_path / "r.zarr", overwrite=True)
    assert list(jt.open_result(tmp_path / "r.zarr").data_vars) == ["cosine"]
    assert [p.name for p in tmp_path.iterdir()] == ["r.zarr"]


def test_a_zip_file_of_a_result_is_opened(result, tmp_path):
    jt.save(result, tmp_path / "r.zarr")
    zipped = shutil.make_archive(tmp_path / "r", "zip", tmp_path / "r.zarr")
    xr.testing.assert_identical(jt.open_result(zipped).load(), result)
    nested = shutil.make_archive(tmp_path / "nested", "zip", tmp_path, "r.zarr")
    with pytest.raises(jt.ResultError, match=r"nested\.zip is not .*zip what is in the folder"):
        jt.open_result(nested)
    with open(zipped, "r+b") as file:
        file.truncate(1000)
    with pytest.raises(jt.ResultError, match=r"r\.zip is not a result: .*zip"):
        jt.open_result(zipped)


def test_existing_result_stands_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "r.zarr"
    old = jt.compare(bank(), metrics=["cosine"], out=path).load()
    with pytest.raises(jt.ResultError, match="overwrite"):
        jt.compare(bank(seed=1), metrics=["cosine"], out=path)

    def fail(done, total):
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jt.compare(bank(seed=1), metrics=["cosine"], out=path, overwrite=True, progress=fail)
    xr.testing.assert_identical(jt.open_result(path).load(), old)
    new = jt.compare(bank(seed=1), metrics=["cosine"], out=path, overwrite=True)
    assert not np.allclose(new["cosine"], old["cosine"], equal_nan=True)
    assert [p.name for p in tmp_path.iterdir()] == ["r.zarr"]


def test_what_is_no_result_is_never_replaced(tmp_path):
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter1.txt").write_text("…")
    with pytest.raises(jt.ResultError, match="not a Zarr result"):
        jt.compare(bank(), out=precious, overwrite=True)
    file = tmp_path / "file"
    file.write_text("…")
    with pytest.raises(jt.ResultError, match="not a Zarr result"):
        jt.compare(bank(), out=file, overwrite=True)
    assert (precious / "chapter1.txt").exists()


def test_bad_places(tmp_path):
    with pytest.raises(jt.ResultError, match=r"missing.*not a folder"):
        jt.compare(bank(), out=tmp_path / "missing" / "r.zarr")
    with pytest.raises(jt.ResultError, match="no such result"):
        jt.open_result(tmp_path / "none.zarr")
    (tmp_path / "empty").mkdir()
    with pytest.raises(jt.ResultError, match="empty is not a"):
        jt.open_result(tmp_path / "empty")
    xr.Dataset({"x": ("n", [1.0])}).to_zarr(tmp_path / "other.zarr", consolidated=False)
    with pytest.raises(jt.ResultError, match="expected the attribute format"):
        jt.open_result(tmp_path / "other.zarr")


def test_pooling_weighs_module_types_alike(result):
    by_hand = np.nanmean(np.nanmean(result["cosine"].values.astype(float), axis=0), axis=0)
    np.testing.assert_allclose(jt.pool(result, "cosine"), by_hand, rtol=1e-6)
    with pytest.raises(jt.JaxtaskError, match="infinite"):
        jt.pool(result, "martin_out")
    with pytest.raises(jt.JaxtaskError, match="not in this result"):
        jt.pool(result, "grasman_out")


def test_pooling_of_tasks_that_share_no_module():
    rng = np.random.default_rng(0)
    update = rng.standard_normal((9, 2), "f"), rng.standard_normal((2, 9), "f")
    apart = jt.AdapterBank.from_factors({"a": {"layers.0.q": update}, "b": {"layers.1.q": update}})
    pooled = jt.pool(jt.compare(apart, metrics=["cosine"]), "cosine").values
    np.testing.assert_array_equal(np.isnan(pooled), [[False, True], [True, False]])


@pytest.mark.parametrize("name", ["rank", "source", "grassmann_out", "projected"])
def test_names_that_a_result_has_already_are_refused(name):
    own = jt.metric(lambda pair: pair.s_source[0], name=name)
    with pytest.raises(jt.JaxtaskError, match=f"variable '{name}'"):
        jt.compare(bank(), metrics=["grassmann", own], keep=["spectra"])


@pytest.mark.parametrize("name", ["notes.txt", ".git/HEAD", "cosine/notes", "src/c/1", "link"])
@pytest.mark.parametrize("options", [{"overwrite": True}, {"append": True}], ids=str)
def test_a_result_with_files_of_others_is_never_replaced(name, options, result, tmp_path):
    path = tmp_path / "r.zarr"
    jt.save(result[["cosine", "rank", "frobenius"]], path)
    own = path / name
    own.parent.mkdir(parents=True, exist_ok=True)
    if name == "link":
        own.symlink_to(tmp_path)
    else:
        own.write_text("mine")
    with pytest.raises(jt.ResultError, match=f"left alone: it holds '{name}'"):
        jt.compare(bank(), metrics="cosine", out=path, **options)
    if "overwrite" in options:
        with pytest.raises(jt.ResultError, match=f"left alone: it holds '{name}'"):
            jt.save(result, path, **options)
    assert own.is_symlink() or own.read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["r.zarr"]


def test_what_others_write_meanwhile_is_not_removed(tmp_path):
    path = tmp_path / "r.zarr"
    jt.compare(bank(), metrics="cosine", out=path)

    def write(done, total):
        (path / "notes.txt").write_text("mine")

    with pytest.raises(jt.ResultError, match=r"it holds 'notes\.txt'"):
        jt.compare(bank(seed=1), metrics="cosine", out=path, overwrite=True, progress=write)
    assert (path / "notes.txt").read_text() == "mine"
    assert jt.open_result(path).sizes["task"] == 3
