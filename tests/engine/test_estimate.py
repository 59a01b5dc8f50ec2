"""What `--dry-run` counts is what the comparison then does."""

import json
from pathlib import Path

import pytest

import jaxtask as jt
from jaxtask.cli.tables import plan_lines, size
from jaxtask.engine import backend as host
from jaxtask.engine import plan
from jaxtask.engine.estimate import estimate
from jaxtask.engine.prepare import prepare
from makers import random_bank
from planted import write_family
from shell import run

ROOT = Path(__file__).parents[2]
T, R = 11, 3


def bank(tasks=T):
    shapes = {"layers.0.q": (36, 28, R), "layers.1.q": (36, 28, R), "layers.1.v": (12, 28, R)}
    return random_bank([f"t{t}" for t in range(tasks)], shapes)


def counted(monkeypatch):
    """Tiles measured and updates factored from now on."""
    tiles, updates = [], []
    start, factor = host.Host.start, host.Host.factor

    def measuring(self, some, plan):
        tiles.extend(len(tile.pairs) for tile in some)
        return start(self, some, plan)

    def factoring(self, key, tasks, *rest):
        updates.append((self.bank.shape(key), len(tasks)))
        return factor(self, key, tasks, *rest)

    monkeypatch.setattr(host.Host, "start", measuring)
    monkeypatch.setattr(host.Host, "factor", factoring)
    return tiles, updates


@pytest.mark.parametrize("columns", [1024, 4 * R])
@pytest.mark.parametrize("known", [0, pytest.param(5, marks=pytest.mark.slow)])
def test_counts(columns, known, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "CPU", plan.CPU._replace(tile_columns=columns))
    out, options = tmp_path / "r.zarr", {"metrics": ["grassmann", "cosine"], "sides": ["out"]}
    if known:
        jt.compare(bank(known), out=out, **options)
    plan_of = estimate(prepare(bank(), **options), out, append=bool(known))
    assert sorted(p.name for p in tmp_path.iterdir()) == (["r.zarr"] if known else [])
    tiles, updates = counted(monkeypatch)
    jt.compare(bank(), out=out, append=bool(known), **options)
    assert sum(b["tiles"] for b in plan_of["buckets"]) == len(tiles)
    assert plan_of["cells"] == sum(tiles)
    loaded = sum(n * (s.d_out + s.d_in) * s.rank * 4 for s, n in updates)
    assert plan_of["bytes_read"] == loaded
    pairs = T * (T + 1) // 2 - known * (known + 1) // 2
    cells = {36: 2 * pairs, 12: pairs}
    for bucket in plan_of["buckets"]:
        # The cosine needs the input side too.
        flops = 2 * R * R * (bucket["d_out"] + 28) * cells[bucket["d_out"]]
        assert bucket["gigaflops"]["gram"] == pytest.approx(1e-9 * flops)
        assert bucket["gigaflops"]["factor"] > 0
    written = sum(v.nbytes for v in jt.open_result(out).data_vars.values())
    # A layer here lacks one of two module types.
    assert plan_of["bytes_written_at_most"] == pytest.approx(written * 3 / 4)


def test_parts_of_the_time_add_up():
    plan_of = estimate(prepare(bank(), metrics=["grassmann", "cosine"]))
    seconds = plan_of["seconds"]
    assert seconds["in_all"] == pytest.approx(
        seconds["compile"] + seconds["check_adapters"] + seconds["compare"]
    )
    assert seconds["compare"] == pytest.approx(sum(b["seconds"] for b in plan_of["buckets"]))
    assert seconds["compare"] > 0
    assert plan_of["matrix_rate_gigaflops"] > 0.1
    assert any("stays in memory" in line for line in plan_lines(plan_of))


@pytest.mark.process
@pytest.mark.slow
def test_command(tmp_path):
    write_family(tmp_path / "family")

    def run_dry(*more):
        paths = (tmp_path / "family", "--out", tmp_path / "r.zarr")
        return run("compare", *paths, "--metrics", "grassmann", "--dry-run", *more).stdout

    told = run_dry()
    for word in ("128 × 128, 8", "r.zarr", "GFLOP", "s on cpu", "are free there"):
        assert word in told
    plan_of = json.loads(run_dry("--json"))
    assert (plan_of["tasks"], plan_of["modules"], plan_of["cells"]) == (7, 8, 8 * 28)
    # Float32 files without anything but factors, headers apart.
    files = sum(f.stat().st_size for f in (tmp_path / "family").rglob("*.safetensors"))
    assert files * 0.9 < plan_of["bytes_read"] < files
    assert [p.name for p in tmp_path.iterdir()] == ["family"]


def test_sizes_in_words():
    assert [size(n) for n in (0, 999, 1500, 2.5e6, 3e9, 4e12)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.5 MB",
        "3 GB",
        "4 TB",
    ]
