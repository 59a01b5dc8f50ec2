"""Results compared bit by bit: the files of their chunks."""

from pathlib import Path


def chunks(result):
    """The bytes of every chunk of every variable, by path."""
    root = Path(result)
    found = {
        str(file.relative_to(root)): file.read_bytes()
        for file in root.rglob("*")
        if file.is_file() and "c" in file.relative_to(root).parts
    }
    assert found
    return found


def assert_same_bits(result, reference):
    found, expected = chunks(result), chunks(reference)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
