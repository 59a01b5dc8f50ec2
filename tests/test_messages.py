"""Messages of errors: sentences that begin in lower case and end without a full stop.

Names, files and commands put them after "file: " or "jaxtask: ", and many end with a value, which a
full stop would become part of.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / "jaxtask").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")])
FUNCTIONS = (ast.FunctionDef, ast.Lambda)
# A word that is capitalised for beginning a sentence; names such as LoRA or B are not.
CAPITAL = re.compile(r"[A-Z][a-z]+(?![A-Za-z])")
NAMES = ("Hugging Face", "Python")


def errors(tree):
    """(call, the function it is in) for all that makes an error, or adds a note to one."""

    def walk(node, inside):
        inside = node if isinstance(node, FUNCTIONS) else inside
        raised = isinstance(node, ast.Raise)
        made = node.exc if raised else node
        if isinstance(made, ast.Call) and made.args:
            name = ast.unparse(made.func).rpartition(".")[2]
            known = name.endswith(("Error", "Exception")) or name in ("error", "_error", "add_note")
            if known != raised:  # what is known is found as a call, raised or not
                yield made, inside
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside)

    yield from walk(tree, tree)


def texts(node, inside, first, depth=0):
    """What a message may begin with (`first`) or end with; "{}" for a value."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from texts(node.left if first else node.right, inside, first, depth)
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body, inside, first, depth)
        yield from texts(node.orelse, inside, first, depth)
    elif isinstance(node, ast.JoinedStr) and node.values:
        yield from texts(node.values[0 if first else -1], inside, first, depth)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Name) and depth < 3:
        for other in ast.walk(inside):
            if isinstance(other, ast.Assign) and node.id in map(ast.unparse, other.targets):
                yield from texts(other.value, inside, first, depth + 1)
    else:
        yield "{}"


def messages(path, first):
    for call, inside in errors(ast.parse(path.read_text(encoding="utf-8"))):
        for text in texts(call.args[0], inside, first):
            yield f"{path}:{call.lineno}", text


def test_there_are_some():
    assert sum(len(list(messages(path, first=False))) for path in FILES) > 500


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_messages_end_without_a_full_stop(path):
    for where, text in messages(path, first=False):
        assert not text.endswith(".") or text.endswith("..."), f"{where}: {text!r}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_messages_begin_in_lower_case(path):
    for where, text in messages(path, first=True):
        assert not CAPITAL.match(text) or text.startswith(NAMES), f"{where}: {text!r}"


@pytest.mark.parametrize(
    "code",
    ['raise XError("It.")', 'raise error(f"it {x}.")', 'raise XError("a" if b else "c" "d.")',
     'def f():\n    told = f"{x}."\n    raise XError(told)', 'x.add_note("see there.")'],
)  # fmt: skip
def test_a_full_stop_is_found(code):
    ((call, inside),) = errors(ast.parse(code))
    assert any(text.endswith(".") for text in texts(call.args[0], inside, first=False))
