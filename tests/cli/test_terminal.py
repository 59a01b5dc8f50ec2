"""Names are data wherever they are printed: never markup, never commands to the terminal."""

import ast
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.table import Table

import jaxtask as jt
from jaxtask.cli import main as cli
from jaxtask.terminal import Terminal, print_json, visible
from shell import ENV, ROOT, run

NASTY = [
    "[/red]",
    "[link=https://x]y[/link]",
    "[bold]b",
    "a\x1b[31mred\x1b[2J",
    "over\rwritten",
    "two\nlines",
    "\u202egnp.exe",
    "zero\u200bwidth",
    "\x9b31m",
    "half \udce9",
    ":warning:",
    "line\u2028sep",
]
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.mark.parametrize("name", NASTY)
def test_text_and_tables_show_what_is_there(name):
    out = io.StringIO()
    terminal = Terminal(file=out, width=200, force_terminal=False)
    table = Table(name, title=name)
    table.add_row(name)
    terminal.print(name)
    terminal.print(table)
    said = out.getvalue()
    assert said.count(visible(name)) == 4
    assert not _CONTROL.search(said)
    assert said.splitlines()[0] == visible(name)


def test_visible_leaves_languages_alone():
    for text in ("naïve ΔW → 語 עברית", "नमस्\u200dते", "wide\u3000space", "👩\u200d🔬"):
        assert visible(text) == text
    assert visible("a\tb\x00") == r"a\tb\x00"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_json_is_json_in_any_encoding(encoding, monkeypatch):
    value = {name: [name, 1.5, None] for name in NASTY}
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding, errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", stream)
    print_json(value)
    stream.flush()
    said = raw.getvalue().decode(encoding)
    assert not _CONTROL.search(said)
    assert json.loads(said) == value


def test_all_that_prints_goes_through_the_terminal():
    for path in sorted((ROOT / "jaxtask").rglob("*.py")):
        if path.name == "terminal.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "Console", f"{path}:{node.lineno}"
                assert node.func.id != "print", f"{path}:{node.lineno}"


def _opens_text(call):
    """Whether a call reads or writes text in an encoding that it does not name."""
    modes = call.args
    if isinstance(call.func, ast.Attribute):
        name = call.func.attr
        if name in ("read_text", "write_text"):
            return True
        if name == "fdopen":
            modes = call.args[1:]
        elif name != "open" or not all(isinstance(mode, ast.Constant) for mode in modes):
            return False  # other things that open take a name
    elif isinstance(call.func, ast.Name) and call.func.id == "open":
        modes = call.args[1:]
    else:
        return False
    return not any("b" in mode.value for mode in modes if isinstance(mode, ast.Constant))


def test_text_is_utf8_whatever_the_locale():
    for path in sorted([*(ROOT / "jaxtask").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _opens_text(node):
                assert any(k.arg == "encoding" for k in node.keywords), f"{path}:{node.lineno}"


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    """A result whose tasks, modules and base have such names."""
    draw = np.random.default_rng(0)
    modules = {f"layers.{n}.x{'[/red]' if n else ''}\x1b[2J\u202eq": (8, 8) for n in range(2)}
    bank = jt.AdapterBank.from_factors(
        {
            name: {
                m: (draw.standard_normal((d, 2)), draw.standard_normal((2, k)))
                for m, (d, k) in modules.items()
            }
            for name in (*NASTY[:9], *NASTY[10:])
        }
    )
    path = tmp_path_factory.mktemp("nasty") / "r.zarr"
    jt.save(jt.compare(bank, metrics=["grassmann", "cosine", "rec"]), path)
    return path


@pytest.mark.parametrize("command", ["show", "analyze"])
def test_commands_print_names_as_they_are(nasty, command, capsys):
    cli.app([command, str(nasty)], standalone_mode=False)
    said = capsys.readouterr().out
    assert not _CONTROL.search(said)
    assert "[/red]" in said
    assert r"\x1b[31m" in said


@pytest.mark.process
def test_what_was_typed_is_no_markup(tmp_path):
    said = run("inspect", f"{tmp_path}/[/red]\x1b[31m\u202e", code=1).stderr
    assert not _CONTROL.search(said)
    assert "[/red]" in said
    for arguments in (["inspect", "--no[/red]\x1b[1m"], ["[/red]\x1b[1m"]):
        said = run(*arguments, code=2).stderr
        assert "[/red]" in said
        assert not _CONTROL.search(said)


@pytest.mark.process
def test_help_keeps_its_brackets():
    assert "[task, " in run("analyze", "--help").stdout


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize(
    "command", ["metrics", "show {}", "show {} --json", "tasks list", "--help", "doctor --json"]
)
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["ascii", "C"],
)
def test_any_encoding(nasty, command, environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setitem(ENV, name, value)
    run(*(part.format(nasty) for part in command.split()))


@pytest.mark.process
@pytest.mark.parametrize("command", ["metrics", "show {}", "metrics --json"])
def test_a_full_disk_behind_the_output(nasty, command):
    import subprocess

    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "jaxtask", *(p.format(nasty) for p in command.split())],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=ENV,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["jaxtask: No space left on device"]


@pytest.mark.process
def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setitem(ENV, "JAX_PLATFORMS", "cuda")
    assert "JAX_PLATFORMS='cuda'" in run("doctor", code=1).stdout.splitlines()[-1]
    (problem,) = json.loads(run("doctor", "--json", code=1).stdout)["problems"]
    assert "JAX_PLATFORMS='cuda'" in problem


def test_a_bug_says_so(monkeypatch, capsys):
    def broken(**_):
        raise KeyError("of ours")

    monkeypatch.setattr(cli, "app", broken)
    monkeypatch.setattr(cli.interrupts, "install", lambda: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == cli.BUG
    assert "Traceback" in said
    assert "bug in jaxtask" in said.splitlines()[-1]


def test_warnings_of_libraries_are_one_line_once(monkeypatch, capsys):
    import warnings

    monkeypatch.setattr(cli, "_WARNED", set())
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", cli._warn)
        for _ in range(3):
            warnings.warn("two\n  lines \x1b[31m[/red]", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: two lines \\x1b[31m[/red]\n"
