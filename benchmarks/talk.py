"""The talk's experiments on a real model: what a run of `jaxtask reproduce` leaves, in small.

`summary.json` and `summary.md` are the run's own. Of every seed's result, what the summary and the
notebook use goes into one zip file, which `jaxtask.open_result` reads. Figures are those of
`jaxtask analyze`.
"""

import argparse
import json
import shutil
import zipfile
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jaxtask as jt
from benchmarks.machine import describe_machine
from jaxtask.folders import new_folder
from jaxtask.report.figures import draw_figures
from jaxtask.reproduce.experiment import Experiment, read_experiment

_RESULTS = Path(__file__).parent / "results" / "talk"
_METRICS = (
    "grassmann_out", "grassmann_in", "overlap_out", "overlap_in", "cosine", "spectral_l1", "rec",
    "entropy_source", "entropy_projected", "residual", "energy_core",
)  # fmt: skip
_OTHERS = (
    "angles_out", "projected", "spectra", "frobenius", "rank", "gap", "d_out", "d_in", "valid",
)  # fmt: skip
_FIGURES = ("pca", "clusters", "angles")


def in_small(result: Path, file: Path) -> None:
    """One zip file of some variables of a result."""
    ds = jt.open_result(result)
    small = ds[[n for n in ds.data_vars if str(n).split("_chance")[0] in (*_METRICS, *_OTHERS)]]
    small.attrs["variables"] = list(small.data_vars)
    with TemporaryDirectory() as folder:
        place = Path(folder) / "result.zarr"
        # One chunk for every variable, where the result has one for every module.
        jt.save(small.load().drop_encoding(), place)
        with zipfile.ZipFile(file, "w") as made:
            for part in sorted(p for p in place.rglob("*") if p.is_file()):
                # Without a date, so that one result is one file, to the last byte.
                made.writestr(zipfile.ZipInfo(str(part.relative_to(place))), part.read_bytes())


def draw(result: Path, experiment: Experiment, folder: Path) -> None:
    """The figures that the README shows."""
    ds = jt.open_result(result)
    findings = jt.analyze(ds, experiment.groups)
    table = [findings.tasks.index(name) for name in experiment.table]
    with TemporaryDirectory() as drafts:
        drawn = draw_figures(ds, findings, Path(drafts), "svg", list(combinations(table, 2)))
        for name in _FIGURES:
            shutil.copy(Path(drafts) / drawn[name], folder)


def provenance(result: Path) -> Mapping[str, Any]:
    """What the run says of itself."""
    attrs = jt.open_result(result).attrs
    return {key: attrs[key] for key in ("command", "device", "versions", "native")}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.talk", description=__doc__)
    parser.add_argument("runs", type=Path, help="the folder that `jaxtask reproduce` made")
    parser.add_argument("--out", type=Path, default=_RESULTS)
    arguments = parser.parse_args()
    experiment, runs = read_experiment("talk"), arguments.runs
    if not (runs / "summary.json").is_file():
        parser.error(f"{runs}: expected a finished run of `jaxtask reproduce`, has no summary.json")
    seeds = json.loads((runs / "summary.json").read_text())["seeds"]
    if any(list(found["held_out_loss"]) != list(experiment.names) for found in seeds.values()):
        parser.error(f"{runs}: expected the experiment 'talk', found other adapters")
    about: dict[str, Any] = {"machine": describe_machine()}
    with new_folder(arguments.out) as out:
        for seed in seeds:
            place = out / f"seed{seed}"
            place.mkdir()
            result = place / "result.zarr.zip"
            in_small(runs / f"seed{seed}" / "result.zarr", result)
            draw(result, experiment, place)
            about[f"seed{seed}"] = provenance(result)
            print(f"seed {seed}: {result.stat().st_size / 1e6:.2f} MB", flush=True)
        for name in ("summary.json", "summary.md"):
            shutil.copy(runs / name, out)
        (out / "about.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
