"""Who imports whom: data flows one way, and comparing costs no training library."""

import ast
import sys
from pathlib import Path

import pytest

from shell import python

ROOT = Path(__file__).parents[1]

# Small modules that every package may import.
SHARED = {"jaxtask.names", "jaxtask.patterns", "jaxtask.terminal", "jaxtask.text_files"}

# What a package may import of the project, itself and those apart. Commands, the demo and
# experiments sit on top of all.
ALLOWED = {
    "jaxtask_kernels": set(),
    "jaxtask.errors": set(),
    "jaxtask.machine": set(),
    "jaxtask.version": set(),
    "jaxtask.folders": {"jaxtask.errors", "jaxtask.names"},
    "jaxtask.interrupts": set(),
    "jaxtask.names": {"jaxtask.errors"},
    "jaxtask.patterns": {"jaxtask.errors"},
    "jaxtask.terminal": set(),
    "jaxtask.text_files": {"jaxtask.errors"},
    "jaxtask.adapters": {"jaxtask.errors", "jaxtask.folders", "jaxtask.version"},
    "jaxtask.extract": {"jaxtask.adapters", "jaxtask.errors"},
    "jaxtask.corpora": {
        "jaxtask.errors",
        "jaxtask.folders",
        "jaxtask.names",
        "jaxtask.text_files",
        "jaxtask.version",
    },
    "jaxtask.metrics": {"jaxtask.errors"},
    "jaxtask.engine": {
        "jaxtask.adapters",
        "jaxtask.errors",
        "jaxtask.machine",
        "jaxtask.metrics",
        "jaxtask.version",
        "jaxtask_kernels",
    },
    "jaxtask.analysis": {"jaxtask.errors", "jaxtask.metrics"},
    "jaxtask.finetune": {
        "jaxtask.adapters",
        "jaxtask.corpora",
        "jaxtask.errors",
        "jaxtask.folders",
        "jaxtask.machine",
        "jaxtask.version",
    },
    "jaxtask.report": {"jaxtask.analysis", "jaxtask.errors", "jaxtask.folders"},
}
HEAVY = (
    "transformers",
    "flax",
    "optax",
    "orbax",
    "torch",
    "peft",
    "matplotlib",
    "scipy.stats",
    "plotly",
    "networkx",
)


def files(package: str) -> list[Path]:
    if package == "jaxtask_kernels":
        return sorted((ROOT / "kernels" / package).rglob("*.py"))
    path = ROOT / package.replace(".", "/")
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


def package_of(module: str) -> str | None:
    """The package of ours that a module belongs to."""
    parts = module.split(".")
    if parts[0] == "jaxtask_kernels":
        return "jaxtask_kernels"
    return ".".join(parts[:2]) if parts[0] == "jaxtask" else None


@pytest.mark.parametrize("package", ALLOWED)
def test_arrows_run_one_way(package):
    assert files(package)
    for path in files(package):
        ours = {package_of(m) for m in imported(path)} - {None, package}
        if package.count(".") and (ROOT / package.replace(".", "/")).is_dir():
            ours -= SHARED
        assert ours <= ALLOWED[package], f"{path} imports {ours - ALLOWED[package]}"


def test_every_package_is_listed():
    found = {
        f"jaxtask.{p.stem}"
        for p in (ROOT / "jaxtask").iterdir()
        if (p.is_dir() and (p / "__init__.py").exists()) or p.suffix == ".py"
    }
    on_top = {f"jaxtask.{name}" for name in ("__init__", "__main__", "cli", "demo", "reproduce")}
    assert found - on_top == set(ALLOWED) - {"jaxtask_kernels"}


def test_kernels_know_nothing_but_jax():
    for path in files("jaxtask_kernels"):
        if path.name == "_build.py":  # run by the package's build, imported by nobody
            continue
        roots = {m.split(".")[0] for m in imported(path)} - sys.stdlib_module_names
        assert roots <= {"jax", "jaxlib", "numpy", "jaxtask_kernels"}, path


@pytest.mark.process
@pytest.mark.slow
def test_comparing_imports_no_training_library():
    loaded = python(
        "import sys, numpy as np, jaxtask as jt\n"
        "B, A = np.ones((8, 2), 'f'), np.ones((2, 8), 'f')\n"
        "bank = jt.AdapterBank.from_factors({n: {'layers.0.q': (B, A)} for n in 'ab'})\n"
        "jt.pool(jt.compare(bank), 'cosine')\n"
        "print(*sys.modules)\n"
    ).split()
    assert "jaxtask.engine.sweep" in loaded
    assert not [m for m in loaded if m.startswith(HEAVY)]


@pytest.mark.process
def test_reading_adapters_imports_no_jax():
    loaded = python(
        "import sys, jaxtask as jt\n"
        "jt.load_adapters, jt.AdapterBank, jt.from_checkpoints\n"
        "print(*sys.modules)\n"
    ).split()
    assert "jaxtask.adapters" in loaded
    assert not [m for m in loaded if m.startswith((*HEAVY, "jax.", "jaxlib", "xarray", "pandas"))]


@pytest.mark.process
def test_corpora_and_tasks_import_no_jax():
    loaded = python("import sys, jaxtask.corpora\nprint(*sys.modules)\n").split()
    assert "jaxtask.corpora.build" in loaded
    assert not [m for m in loaded if m.startswith((*HEAVY, "jax.", "jaxlib", "numpy", "pyarrow"))]


def test_public_names_are_all_there():
    import jaxtask as jt

    assert set(jt.__all__) == set(dir(jt))
    for name in jt.__all__:
        assert getattr(jt, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        jt.no_such_name  # noqa: B018
