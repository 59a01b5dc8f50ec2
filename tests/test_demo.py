"""The demo in small: the whole way, and what it says of it."""

import io

import numpy as np
import pytest
from rich.console import Console

import jaxtask as jt
from jaxtask.demo.run import Sizes, run
from jaxtask.folders import foreign
from jaxtask.reproduce.experiment import read_experiment
from jaxtask.reproduce.folder import written

pytestmark = pytest.mark.slow

SMALL = Sizes(documents=4, held_out=2, read=60, steps=4, epochs=1)
EXPERIMENT = read_experiment("demo")
NAMES = EXPERIMENT.names


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "d"
    text = io.StringIO()
    run(out, Console(file=text, width=80), SMALL)
    return out, text.getvalue()


def test_everything_is_there(demo):
    out, _ = demo
    place = out / "experiment" / "seed0"
    assert sorted(p.name for p in (place / "adapters").iterdir()) == sorted(NAMES)
    ds = jt.open_result(place / "result.zarr")
    assert list(ds["source"].values) == list(NAMES)
    assert np.isfinite(jt.pool(ds, "grassmann_out")).all()
    assert "PERMANOVA" in (place / "report.html").read_text()
    # All that it writes is known to be its own, so it can be replaced.
    assert foreign(out / "experiment", written(out / "experiment", EXPERIMENT)) is None


def test_it_shows_losses_tables_and_findings(demo):
    _, text = demo
    for name in NAMES:
        assert text.count(name) >= 3  # while it trains, and in two tables
    assert "grassmann_out" in text
    assert "By grassmann_out, the groups are" in text
    assert "report.html in a browser" in text


def test_again_replaces_a_demo_and_nothing_else(demo, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(jt.JaxtaskError, match="holds no demo"):
        run(tmp_path, Console(file=io.StringIO()), SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
