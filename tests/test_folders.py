"""Folders and files that take their places whole, or not at all."""

import pytest

from jaxtask.folders import new_file, new_folder


def held(folder):
    return {p.name: p.read_text() for p in folder.iterdir()}


def fail(write, text):
    write(text)
    raise KeyError


def test_a_folder_is_replaced_or_left_as_it_was(tmp_path):
    path = tmp_path / "made"
    for text in ("first", "second"):
        with new_folder(path) as draft:
            (draft / "file").write_text(text)
        assert held(path) == {"file": text}
    with pytest.raises(KeyError), new_folder(path) as draft:
        fail((draft / "file").write_text, "third")
    assert held(path) == {"file": "second"}
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left(tmp_path):
    """Killed between two renamings, it has the only whole folder under the other name."""
    path, old, new = (tmp_path / name for name in ("made", ".made.old", ".made.new"))
    for folder, text in ((old, "whole"), (new, "half")):
        folder.mkdir()
        (folder / "file").write_text(text)
    with pytest.raises(KeyError), new_folder(path):
        raise KeyError
    assert held(path) == {"file": "whole"}
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_one_stands_in(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with new_folder(type(tmp_path)(".")) as draft:
        (draft / "file").write_text("new")
    assert held(tmp_path / "here") == {"file": "new"}


def test_a_file_is_replaced_or_left_as_it_was(tmp_path):
    path = tmp_path / "made"
    with new_file(path) as file:
        file.write(b"first")
    with pytest.raises(KeyError), new_file(path) as file:
        fail(file.write, b"second")
    assert held(tmp_path) == {"made": "first"}
