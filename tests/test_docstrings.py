"""Docstrings where no linter looks: fields are told of in their class, errors in their section."""

import ast
import dataclasses
import inspect
import re
from pathlib import Path

import pytest

import jaxtask
import jaxtask_kernels

ROOT = Path(__file__).parents[1]

FILES = sorted([*(ROOT / "jaxtask").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")])
PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (jaxtask, jaxtask.metrics, jaxtask_kernels)
    for name in module.__all__
}
RECORDS = {
    name: tuple(f.name for f in dataclasses.fields(it))
    if dataclasses.is_dataclass(it)
    else it._fields
    for name, it in PUBLIC.items()
    if isinstance(it, type) and (dataclasses.is_dataclass(it) or hasattr(it, "_fields"))
}


def documented(text: str, section: str) -> list[str]:
    """The names in a section of a docstring."""
    found = re.search(rf"^{section}:\n((?: .*\n|\n)*)", f"{text}\n", re.MULTILINE)
    return re.findall(r"^    (\w+):", found[1], re.MULTILINE) if found else []


def nodes(path: Path, *kinds: type) -> list:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)


def test_there_are_some():
    assert len(FILES) > 50
    assert {"jaxtask.metrics.Pair", "jaxtask.ModuleKey", "jaxtask_kernels.Factors"} <= set(RECORDS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_fields_are_told_of_in_the_class(path):
    for node in nodes(path, ast.ClassDef):
        where = f"{path}:{node.lineno} {node.name}"
        assert not [n.lineno for n in node.body[1:] if is_text(n)], where
        fields = [n.target.id for n in node.body if isinstance(n, ast.AnnAssign)]
        told = documented(ast.get_docstring(node) or "", "Attributes")
        assert len(set(told)) == len(told), where
        assert not fields or told == [f for f in fields if f in told], where


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_errors_are_told_of_in_their_section(path):
    for node in nodes(path, ast.ClassDef, ast.FunctionDef):
        told = ast.get_docstring(node) or ""
        assert not re.search(r"(^|[.:]\s)\s*Raises\s+(`|if |as |when )", told), (
            f"{path}:{node.lineno} {node.name}"
        )


@pytest.mark.parametrize("name", RECORDS)
def test_public_classes_tell_what_each_field_is(name):
    assert tuple(documented(inspect.getdoc(PUBLIC[name]), "Attributes")) == RECORDS[name]
    for field in RECORDS[name]:
        assert "Alias for field" not in (getattr(PUBLIC[name], field, None).__doc__ or "")
