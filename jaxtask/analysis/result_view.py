"""What a result says of its updates beside the pairs: dimensions, ranks, norms, spectra."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Updates:
    """All modules of all tasks, as arrays in memory. NaN where a task lacks a module.

    Attributes:
        d_out: [L, M] rows of ΔW.
        d_in: [L, M] columns of ΔW.
        rank: [L, M, T] numerical ranks.
        norm: [L, M, T] ‖ΔW‖_F.
        spectra: [L, M, T, r] singular values, 0 beyond each rank; all equal if they were not kept.
        flat: They were not kept.

    """

    d_out: np.ndarray
    d_in: np.ndarray
    rank: np.ndarray
    norm: np.ndarray
    spectra: np.ndarray
    flat: bool

    @property
    def widest(self) -> int:
        """The largest rank there is."""
        return max(1, int(np.max(self.rank, initial=0, where=np.isfinite(self.rank))))

    @property
    def sha256(self) -> str:
        """A digest of ranks, norms and spectra, which differs where any adapter differs."""
        digest = hashlib.sha256()
        for values in (self.rank, self.norm, self.spectra):
            # Results have one NaN, and files another.
            digest.update(np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes())
        return digest.hexdigest()


def updates_of(ds: "xr.Dataset") -> Updates:
    """The updates that a result is of; dimensions are NaN in results that do not tell them."""
    order = ("layer", "module", "task")
    rank = ds["rank"].transpose(*order).values
    norm = ds["frobenius"].transpose(*order).values
    flat = "spectra" not in ds
    if flat:
        live = np.arange(int(np.nanmax(rank, initial=1))) < rank[..., None]
        spectra = live * np.nan_to_num(norm / np.sqrt(np.maximum(rank, 1)))[..., None]
    else:
        spectra = np.nan_to_num(ds["spectra"].transpose(*order, "component").values)
    d_out, d_in = (
        ds[name].transpose("layer", "module").values
        if name in ds
        else np.full(rank.shape[:2], np.nan)
        for name in ("d_out", "d_in")
    )
    return Updates(d_out, d_in, rank, norm, spectra, flat)
