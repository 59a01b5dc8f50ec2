"""Names of strangers in files: what a spreadsheet, a viewer of Markdown and a figure show."""

import csv
import re

import numpy as np
import pytest

import jaxtask as jt
from jaxtask.cli import main as cli
from jaxtask.report.escapes import csv_text, markdown
from jaxtask.report.labels import shorten

FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1"]
TAGS = [
    "<img src=x>",
    "a|b",
    "`code`",
    "[x](http://y)",
    "# head",
    "- item",
    "_it_",
    "1. one",
    "$x$",
]
NAMES = [
    *FORMULAS,
    *TAGS,
    "two\nlines",
    "\x1b[31mred",
    "k\u202egnp",
    "</script>\u2028",
    "plain_name-2",
]


def test_a_cell_is_text():
    for name in FORMULAS:
        assert csv_text(name)[0] == "'"
    for name in ("＝1", " =1", '"=1', "a;=1+1", "a; @x;-1"):
        assert not re.search(r"(^|;)[\s\"]*[=+@＝-]", csv_text(name))
    assert csv_text("plain_name-2") == "plain_name-2"
    assert csv_text("a=1;b") == "a=1;b"


def test_markdown_is_text():
    assert markdown("plain_name-2 -0.5 (3 < 4)") == r"plain_name-2 -0.5 (3 \< 4)"
    assert markdown("<img src=x>") == r"\<img src=x\>"
    assert markdown("http://y www.y") == r"http\://y www\.y"
    assert markdown("---") == r"\---"
    assert markdown("-") == r"\-"
    assert markdown("# head") == r"\# head"
    assert markdown("- item") == r"\- item"
    assert markdown("1. one") == r"1\. one"
    assert markdown("_it_") == r"\_it\_"
    assert markdown("a|b`c`[d]") == r"a\|b\`c\`\[d\]"


def test_figures_show_escapes():
    assert shorten("\x1b[31mred\n", 40) == r"\x1b[31mred\n"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    draw = np.random.default_rng(1)
    bank = jt.AdapterBank.from_factors(
        {
            name: {
                f"layers.{n}.q": (draw.standard_normal((9, 2)), draw.standard_normal((2, 8)))
                for n in range(2)
            }
            for name in NAMES
        }
    )
    folder = tmp_path_factory.mktemp("escapes")
    jt.save(jt.compare(bank, metrics=["grassmann", "rec"]), folder / "r.zarr")
    out = folder / "findings"
    arguments = ["analyze", str(folder / "r.zarr"), "--out", str(out), "--format", "svg"]
    cli.app(arguments, standalone_mode=False)
    return out


def test_no_cell_of_a_file_is_a_formula(written):
    files = sorted(written.rglob("*.csv"))
    assert files
    for file in files:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.reader(lines))
        assert len({len(row) for row in rows}) == 1
        for row in rows:
            for cell in row:
                if cell.startswith(("=", "+", "-", "@", "\t", "\r")):
                    float(cell)
                assert cell.isprintable()


def test_the_summary_is_text(written):
    text = (written / "summary.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)[<`|$]", text)
    assert all(c == "\n" or c.isprintable() for c in text)


def test_figures_are_whole(written):
    import xml.etree.ElementTree as tree

    files = list(written.rglob("*.svg"))
    assert files
    for file in files:
        tree.parse(file)


def test_a_page_is_text(written):
    """Outside of what Plotly itself is made of."""
    page = written.parent / "page.html"
    cli.app(["report", str(written.parent / "r.zarr"), "--out", str(page)], standalone_mode=False)
    text = page.read_text(encoding="utf-8")
    assert text.count("</script>") == text.count("<script") == 3
    ours = [part for part in re.split("</?script[^>]*>", text) if len(part) < 1_000_000]
    for part in ours:
        assert all(c == "\n" or c.isprintable() for c in part)
    assert r"\u202egnp" in ours[0]
    assert r"k\\u202egnp" in ours[1]


def test_latex_is_text(written):
    text = (written / "table.tex").read_text(encoding="utf-8")
    assert not re.search(r"[<>|]", text)
