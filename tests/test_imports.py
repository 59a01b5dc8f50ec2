"""Who imports whom: data flows one way, and comparing costs no training library."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What a package may import of the project, itself apart. Commands, the demo and experiments sit on
# top of all.
ALLOWED = {
    "jaxtask_kernels": set(),
    "jaxtask.errors": set(),
    "jaxtask.machine": set(),
    "jaxtask.version": set(),
    "jaxtask.adapters": {"jaxtask.errors"},
    "jaxtask.corpora": {"jaxtask.errors", "jaxtask.version"},
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
    "jaxtask.doctor": {"jaxtask.version", "jaxtask_kernels"},
    "jaxtask.finetune": {
        "jaxtask.adapters",
        "jaxtask.corpora",
        "jaxtask.errors",
        "jaxtask.machine",
        "jaxtask.version",
    },
    "jaxtask.report": {"jaxtask.analysis", "jaxtask.errors"},
}
HEAVY = ("transformers", "flax", "optax", "orbax", "torch", "peft", "matplotlib", "scipy.stats")


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
        assert ours <= ALLOWED[package], f"{path} imports {ours - ALLOWED[package]}"


def test_every_package_is_listed():
    found = {
        f"jaxtask.{p.stem}"
        for p in (ROOT / "jaxtask").iterdir()
        if (p.is_dir() and (p / "__init__.py").exists()) or p.suffix == ".py"
    }
    others = {f"jaxtask.{name}" for name in ("__init__", "__main__", "demo", "reproduce")}
    on_top = others | {name for name in found if name.startswith("jaxtask.cli")}
