"""The talk's experiments on a real model: what a run of `jaxtask reproduce` leaves, in small.

`summary.json` and `summary.md` are the run's own. Of every seed's result, what its findings are
made of goes into one zip file, which `jaxtask.open_result` reads. Figures are those of
`jaxtask analyze`.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import jaxtask as jt
from benchmarks.machine import describe_machine
from jaxtask.report.figures import draw_figures
from jaxtask.reproduce.experiment import Experiment, read_experiment

_RESULTS = Path(__file__).parent / "results" / "talk"
_METRICS = (
    "grassmann_out", "grassmann_in", "cosine", "spectral_l1", "rec", "entropy_source",
    "entropy_projected", "residual", "energy_core",
)  # fmt: skip
_VECTORS = ("angles_out", "projected")
_OF_UPDATES = ("spectra", "frobenius", "rank", "gap", "d_out", "d_in", "valid")
_FIGURES = ("pca", "clusters", "angles")


def in_small(result: Path, tasks: Sequence[str], file: Path) -> None:
    """One zip file of what the findings of a result are made of; vectors between `tasks` alone."""
    ds = jt.open_result(result)
    kept = (*_METRICS, *_VECTORS, *_OF_UPDATES)
    small = ds[[n for n in ds.data_vars if str(n).split("_chance")[0] in kept]].load()
    for name in _VECTORS:
        small[name] = small[name].where(ds["source"].isin(tasks) & ds["target"].isin(tasks))
    with tempfile.TemporaryDirectory() as folder:
        # One chunk for every variable, where the result has one for every module.
        jt.save(small.drop_encoding(), f"{folder}/result.zarr")
        made = shutil.make_archive(f"{folder}/result", "zip", f"{folder}/result.zarr")
        shutil.move(made, file)


def draw(result: Path, experiment: Experiment, folder: Path) -> None:
    """The figures that the README shows."""
    ds = jt.open_result(result)
    findings = jt.analyze(ds, experiment.groups)
    table = [findings.tasks.index(name) for name in experiment.table]
    with tempfile.TemporaryDirectory() as drafts:
        drawn = draw_figures(ds, findings, Path(drafts), "svg", list(combinations(table, 2)))
        folder.mkdir(parents=True, exist_ok=True)
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
    experiment, runs, out = read_experiment("talk"), arguments.runs, arguments.out
    about: dict[str, Any] = {"machine": describe_machine()}
    for seed in json.loads((runs / "summary.json").read_text())["seeds"]:
        place = out / f"seed{seed}"
        place.mkdir(parents=True, exist_ok=True)
        result = place / "result.zarr.zip"
        in_small(runs / f"seed{seed}" / "result.zarr", experiment.table, result)
        draw(result, experiment, place)
        about[f"seed{seed}"] = provenance(result)
        print(f"{result}: {result.stat().st_size / 1e6:.2f} MB", flush=True)
    for name in ("summary.json", "summary.md"):
        shutil.copy(runs / name, out)
    (out / "about.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
