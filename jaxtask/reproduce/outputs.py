"""What is written of one seed's findings, by the package that reports."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr

    from jaxtask.analysis.findings import Findings


def write_findings(
    ds: "xr.Dataset", findings: "Findings", table: Sequence[str], folder: Path
) -> None:
    """Tables, numbers and figures, as `jaxtask analyze` writes them; replaces earlier ones."""
    raise NotImplementedError


def write_report(ds: "xr.Dataset", findings: "Findings", path: Path) -> None:
    """The page, as `jaxtask report` writes it; replaces an earlier one."""
    raise NotImplementedError
