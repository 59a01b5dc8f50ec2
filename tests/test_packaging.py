"""The wheel: what it ships, and that it works from another directory."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    # From a copy: an old build/ in the checkout would ship modules that are gone.
    out, copy = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    for name in ("jaxtask", "kernels"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, copy],
        check=True,
        capture_output=True,
        timeout=300,
    )
    (made,) = out.glob("*.whl")
    return made


@pytest.mark.process
def test_wheel_ships_every_module_and_no_top_level_kernels(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {n.split("/")[0] for n in names if ".dist-info" not in n}
    assert tops == {"jaxtask", "jaxtask_kernels"}
    sources = {str(p.relative_to(ROOT)) for p in (ROOT / "jaxtask").rglob("*.py")}
    sources |= {str(p.relative_to(ROOT / "kernels")) for p in (ROOT / "kernels").rglob("*.py")}
    assert sources == {n for n in names if n.endswith(".py")}
    assert {"jaxtask/py.typed", "jaxtask_kernels/py.typed"} <= set(names)
    assert "jaxtask_kernels/native/limits.h" in names  # which Python reads
    recipes = {str(p.relative_to(ROOT)) for p in (ROOT / "jaxtask").rglob("*.yaml")}
    assert recipes
    assert recipes == {n for n in names if n.endswith(".yaml")}
    assets = {str(p.relative_to(ROOT)) for p in (ROOT / "jaxtask/report/assets").iterdir()}
    assert {p.suffix for p in map(Path, assets)} == {".css", ".html", ".js"}
    assert assets <= set(names)


@pytest.mark.process
def test_wheel_works_from_another_directory(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import jaxtask, jaxtask_kernels, importlib.util as u\n"
        "assert u.find_spec('kernels') is None\n"
        f"assert jaxtask.__file__.startswith({str(site)!r})\n"
        f"assert jaxtask_kernels.__file__.startswith({str(site)!r})\n"
        "from jaxtask.cli.main import main; import sys\n"
        "sys.argv = ['jaxtask', 'metrics', '--json']; main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "grassmann" in done.stdout


def test_dependencies_exclude_the_jaxlib_with_wrong_sums():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [r for group in project["optional-dependencies"].values() for r in group]
    pinned = [Requirement(r) for r in [*project["dependencies"], *extras]]
    jaxes = [r for r in pinned if r.name in {"jax", "jaxlib"}]
    assert {r.name for r in jaxes} == {"jax", "jaxlib"}
    for requirement in jaxes:
        assert not requirement.specifier.contains("0.10.2"), requirement
        assert requirement.specifier.contains("0.10.1"), requirement
        assert requirement.specifier.contains("0.12.0"), requirement
