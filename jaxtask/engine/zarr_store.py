"""Results on disk: one Zarr group, a chunk for every module and variable, complete or not there."""

import os
import shutil
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxtask.engine.schema import MODULE, PAIR, TASK, Layout
from jaxtask.engine.schema_check import Folder, Zipped, check_layout, foreign
from jaxtask.engine.staging import sync
from jaxtask.errors import ResultError, shown
from jaxtask.names import check_path

if TYPE_CHECKING:
    import xarray as xr


FORMAT = "jaxtask result 1"


def check_target(path: Path, *, overwrite: bool, append: bool = False) -> None:
    """Raise unless a result at `path` may be written or added to, without touching it.

    Raises:
        ResultError: It exists and is not to be replaced or added to, or is no result; it is to be
            added to and does not exist; its folder is missing or not writable.

    """
    check_path(path, "out", ResultError)
    if overwrite and append:
        raise ResultError(f"{path}: overwrite and append exclude each other")
    if path.exists():
        if not overwrite and not append:
            raise ResultError(
                f"{path} exists; give overwrite=True to replace it, append=True to "
                "add adapters to it"
            )
        if not (path / "zarr.json").is_file():
            raise ResultError(f"{path} exists and is not a Zarr result; it is left alone")
        check_only_ours(path)
    elif append:
        raise ResultError(f"{path}: no such result to add adapters to")
    check_place(path)


def check_only_ours(path: Path) -> None:
    """Raise a `ResultError` if the folder of a result holds anything else, which would be lost."""
    if other := foreign(path):
        raise ResultError(f"{path} is left alone: it holds {other!r:.200}, no part of a result")


def check_place(path: Path) -> None:
    """Raise a `ResultError` unless something can be made in the folder of `path`."""
    parent = path.absolute().parent
    if not parent.is_dir():
        raise ResultError(f"cannot write {path}: {parent} is not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ResultError(f"cannot write {path}: {parent} is not writable")


@contextmanager
def replacing(path: Path, overwrite: bool) -> Iterator[Path]:
    """A fresh folder beside `path` that takes its place if the block ends well, else vanishes."""
    check_target(path, overwrite=overwrite)
    parent = path.absolute().parent
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=parent))
    try:
        draft.chmod(0o777 & ~_umask())
        yield draft
        if path.exists():
            check_only_ours(path)  # again, for what came meanwhile
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=parent))
            os.rename(path, old / "old")
            os.rename(draft, path)
            shutil.rmtree(old)
        else:
            os.rename(draft, path)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def create(folder: Path, layout: Layout, attrs: Mapping[str, Any]) -> None:
    """A Zarr group of this layout in `folder`, all NaN (False), one chunk a module."""
    import zarr

    group = zarr.open_group(str(folder), mode="w", attributes={"format": FORMAT, **attrs})
    for name, labels in layout.coords.items():
        text = isinstance(labels[0], str)
        array = group.create_array(
            name,
            shape=(len(labels),),
            dtype=str if text else np.dtype("int64"),
            dimension_names=(name,),
        )
        array[:] = np.array(labels, dtype=object if text else np.int64)
    for name, v in layout.variables.items():
        group.create_array(
            name,
            shape=v.shape,
            dtype=v.dtype,
            chunks=(1, 1, *v.shape[2:]),
            fill_value=False if v.dtype == bool else np.nan,
            dimension_names=v.dims,
            attributes=dict(v.attrs),
        )


def variables(folder: Path, layout: Layout) -> dict[str, Any]:
    """The Zarr array of every variable of a group that `create` has made."""
    import zarr

    group = zarr.open_group(str(folder), mode="r+")
    return {name: group[name] for name in layout.variables}


def write_module(
    folder: Path, arrays: Mapping[str, Any], at: tuple[int, int], values: Mapping[str, np.ndarray]
) -> dict[str, int]:
    """Write one module's chunks, each an array's only one there, and have them reach the disk.

    Returns:
        Path below `folder` and size [bytes] of every file. A chunk of nothing but NaN has none.

    """
    sizes = {}
    for name, array in arrays.items():
        array[at] = values[name]
        key = array.metadata.encode_chunk_key((*at, *(0,) * (array.ndim - 2)))
        file = folder / name / key
        if file.exists():
            sync(file)
            sizes[f"{name}/{key}"] = file.stat().st_size
    return sizes


def save(ds: "xr.Dataset", path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a result as Zarr; an error leaves nothing behind.

    Raises:
        ResultError: See `check_target`.

    """
    path = Path(path)
    # Zarr has no settled type for NumPy's strings of fixed width.
    text = {name: c.astype(object) for name, c in ds.coords.items() if c.dtype.kind in "UT"}
    with replacing(path, overwrite) as draft:
        ds.assign_coords(text).assign_attrs(format=FORMAT).to_zarr(
            draft, mode="w", consolidated=False
        )


def open_result(path: str | os.PathLike[str]) -> "xr.Dataset":
    """Open a result; its variables are read when they are used.

    Args:
        path: The result's folder, or a zip file of what is in it (not of the folder itself).

    Raises:
        ResultError: There is no result at `path`.

    """
    import xarray as xr

    path = check_path(path, "result", ResultError)
    if not path.exists():
        raise ResultError(f"{path}: no such result")
    try:
        if path.is_file():
            with zipfile.ZipFile(path) as file:
                check_layout(Zipped(file), FORMAT)
            ds = _open_zip(path)
        else:
            check_layout(Folder(path), FORMAT)
            with warnings.catch_warnings():  # of files beside its own, which do no harm
                warnings.filterwarnings("ignore", "Object at .* is not recognized")
                ds = xr.open_zarr(path, consolidated=False, chunks=None)
        _check_labels(ds)
    except ResultError as error:
        raise ResultError(f"{path} is not a result: {error}") from error
    except (
        OSError, KeyError, TypeError, ValueError, RuntimeError, NotImplementedError, zlib.error,
        zipfile.BadZipFile,
    ) as error:  # fmt: skip
        said = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise ResultError(f"{path} is not a result: {said:.300}") from error
    # A folder has no order; the one that the result was made in reads better.
    order = [name for name in ds.attrs.get("variables", ()) if name in ds]
    return ds[[*order, *(name for name in ds.data_vars if name not in order)]]


def _open_zip(path: Path) -> "xr.Dataset":
    import xarray as xr
    from zarr.storage import ZipStore

    store = ZipStore(path, mode="r")
    try:
        return xr.open_zarr(store, consolidated=False, chunks=None)
    except BaseException:
        store.close()
        raise


def _check_labels(ds: "xr.Dataset") -> None:
    """Raise a `ValueError` unless each layer, module and task is there once, by text or number.

    And unless every variable is of layers, modules, and then of pairs, tasks or nothing more.
    """
    for name, variable in ds.data_vars.items():
        if {*variable.dims} - {"component"} not in ({*PAIR}, {*TASK}, {*MODULE}):
            found = shown(", ".join(map(str, variable.dims)), 80)
            raise ValueError(
                f"{shown(name, 80)} has the dimensions {found}, not those that jaxtask writes"
            )
    for name in ("layer", "module", "source", "target"):
        labels = ds[name].values.tolist()
        kind = int if name == "layer" else str
        if not all(isinstance(label, kind) for label in labels):
            raise ValueError(f"{name}: labels are not all {kind.__name__}")
        if len(set(labels)) < len(labels):
            raise ValueError(f"{name}: a label is there twice")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
