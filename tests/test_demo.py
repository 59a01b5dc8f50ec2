"""The demo in small: the whole way, and what it says of it."""

import io

import numpy as np
import pytest
from rich.console import Console

import jaxtask as jt
from jaxtask.demo.run import GROUPS, NAMES, Sizes, run, verdict

pytestmark = pytest.mark.slow

SMALL = Sizes(documents=4, held_out=2, read=60, steps=4, epochs=1)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "d"
    text = io.StringIO()
    run(out, Console(file=text, width=80), SMALL)
    return out, text.getvalue()


def test_everything_is_there(demo):
    out, _ = demo
    assert sorted(p.name for p in (out / "adapters").iterdir()) == sorted(NAMES)
    assert sorted(p.name for p in (out / "tasks").iterdir()) == sorted(NAMES)
    ds = jt.open_result(out / "result.zarr")
    assert list(ds["source"].values) == list(NAMES)
    assert np.isfinite(jt.pool(ds, "grassmann_out")).all()


def test_it_shows_losses_and_tables(demo):
    _, text = demo
    for name in NAMES:
        assert text.count(name) >= 3  # while it trains, and in two tables
    assert "grassmann_out" in text
    assert "mean silhouette" in text


def test_again_replaces_a_demo_and_nothing_else(demo, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(jt.JaxtaskError, match="holds no demo"):
        run(tmp_path, Console(file=io.StringIO()), SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(("apart", "says"), [(2.0, "tasks separate"), (0.5, "do NOT separate")])
def test_the_verdict_is_honest(apart, says):
    groups = np.array([group for group, names in GROUPS.items() for _ in names])
    D = np.where(groups[:, None] == groups, 1.0, apart)
    np.fill_diagonal(D, 0)
    assert says in verdict(D)
    assert f"1.000 within counting tasks, {apart:.3f} between" in verdict(D)
