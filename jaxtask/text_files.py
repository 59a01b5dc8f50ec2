"""JSON and YAML of strangers: plain data in bounded time and memory, or one error that says why."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from functools import cache
from typing import Any

from jaxtask.errors import JaxtaskError

# Far above what people write by hand or tools write of adapters. What is read takes up to 30 times
# as much memory, and a second for a hundred kilobytes of YAML.
MAX_BYTES = 16 << 20
MAX_YAML_BYTES = 256 << 10
MAX_DEPTH = 100
# Values in YAML, each as often as aliases repeat it.
MAX_VALUES = 50_000
# Any whole number that is smaller has a float64.
_MAX_BITS = 1023


def read_json(
    path: str | os.PathLike[str], error: type[JaxtaskError], limit: int = MAX_BYTES
) -> Any:
    """The value in a JSON file of at most `limit` bytes.

    Raises:
        error: As `parse_json`, or the file cannot be read; names the file.

    """
    return parse_json(read_text(path, error, limit), str(path), error)


def read_object(
    path: str | os.PathLike[str], error: type[JaxtaskError], limit: int = MAX_BYTES
) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        error: As `read_json`, or it holds no object; names the file.

    """
    return as_object(read_json(path, error, limit), str(path), error)


def as_object(value: Any, source: str, error: type[JaxtaskError]) -> dict[str, Any]:
    """The value, if it is a dict.

    Raises:
        error: It is not an object; names `source`.

    """
    if not isinstance(value, dict):
        kind = "null" if value is None else f"a {type(value).__name__}"
        raise error(f"{source}: holds {kind}, expected a JSON object")
    return value


def parse_json(text: str | bytes, source: str, error: type[JaxtaskError]) -> Any:
    """The value that `text` is in JSON. NaN and infinities, which Python writes, are read too.

    Args:
        text: JSON; bytes are UTF-8.
        source: What messages name: a file, or a file and line.
        error: What is raised.

    Raises:
        error: It is no JSON, is nested too deeply, has a key twice, or holds a whole number that is
            no float64 or half a surrogate pair, which no file can hold.

    """
    if isinstance(text, bytes):
        text = _decoded(text, source, error)
    try:
        value = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_each_key_once)
        _check(value, texts="\\u" in text)
    except RecursionError:
        raise error(f"{source}: is not valid JSON: {_TOO_DEEP}") from None
    except ValueError as found:
        raise error(f"{source}: is not valid JSON: {_said(found)}") from found
    return value


def read_yaml(path: str | os.PathLike[str], error: type[JaxtaskError]) -> Any:
    """The value in a YAML file.

    Raises:
        error: As `parse_yaml`, or the file cannot be read; names the file.

    """
    return parse_yaml(read_text(path, error, MAX_YAML_BYTES), str(path), error)


def parse_yaml(text: str, source: str, error: type[JaxtaskError]) -> Any:
    """The value that `text` is in YAML: texts, numbers, true, false, null, lists and mappings.

    Words are read as YAML 1.2 has it: 4e-5 is a number; 010, 1:30, 2024-01-01, no and on are texts.
    Aliases and merges (``<<``) are read as long as they do not multiply.

    Raises:
        error: It is no such YAML, has several documents, a key twice or one that is no plain value,
            is nested too deeply, is too much, or holds what `parse_json` refuses. Names `source`,
            the line and column.

    """
    import yaml

    if len(text) > MAX_YAML_BYTES:
        raise error(f"{source}: has over {MAX_YAML_BYTES:,} characters of YAML")
    try:
        value = yaml.load(text, Loader=_loader())
        _check(value, texts=True, nul=False)
    except RecursionError:
        raise error(f"{source}: is not valid YAML: {_TOO_DEEP}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as found:
        raise error(f"{source}: is not valid YAML: {_said(found)}") from found
    return value


def read_text(
    path: str | os.PathLike[str], error: type[JaxtaskError], limit: int = MAX_BYTES
) -> str:
    """The text of a UTF-8 file of at most `limit` bytes.

    Raises:
        error: There is no such file, it cannot be read, or it is larger; names the file.

    """
    return _decoded(read_bytes(path, error, limit), str(path), error)


def read_bytes(
    path: str | os.PathLike[str], error: type[JaxtaskError], limit: int = MAX_BYTES
) -> bytes:
    """What is in a regular file of at most `limit` bytes.

    Raises:
        error: There is no such file, it cannot be read, or it is larger; names the file.

    """
    try:
        # A pipe would wait for ever for somebody to write.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(file, "rb") as opened:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise error(f"{_shown(path)}: is not a regular file")
            content = opened.read(limit + 1)
    except FileNotFoundError as found:
        raise error(f"{_shown(path)}: no such file") from found
    except OSError as found:
        raise error(f"{_shown(path)}: cannot be read: {found.strerror or found}") from found
    except ValueError as found:  # a NUL character in the path
        raise error(f"{_shown(path)}: is not the path of a file: {found}") from found
    if len(content) > limit:
        raise error(f"{_shown(path)}: has over {limit:,} bytes, too many for such a file")
    return content


def _shown(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path)
    return text if len(text) <= 300 else f"{text[:140]}…{text[-140:]}"


def _decoded(content: bytes, source: str, error: type[JaxtaskError]) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as found:
        wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        at = f"byte {content[found.start]:#04x} at {found.start}"
        raise error(
            f"{source}: is {'UTF-16' if wide else 'not UTF-8'}, expected UTF-8 text ({at})"
        ) from found
    if "\0" in text:
        raise error(
            f"{source}: holds a NUL character at {text.index(chr(0))}, expected UTF-8 text (it is "
            "UTF-16 or no text at all)"
        )
    return text


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:80]!r} is given twice")
            seen.add(key)
    return found


def _check(value: Any, *, texts: bool, nul: bool = True) -> None:
    """Raise `ValueError` for what is nested too deeply, and for values that nothing can be with.

    Texts are looked at if `texts`; `nul` says whether they may hold NUL characters.
    """
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
                if texts:
                    below.extend(item)
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, int):
                if item.bit_length() > _MAX_BITS:
                    raise ValueError("it holds a whole number above 1e308")
            elif texts and isinstance(item, str):
                _check_text(item, nul)
        if not below:
            return
        level = below
    raise ValueError(f"it is nested more than {MAX_DEPTH} deep")


def _check_text(text: str, nul: bool) -> None:
    if not nul and "\0" in text:
        raise ValueError(f"the text {text[:40]!r} holds a NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as found:
            half = text[found.start]
            raise ValueError(f"it holds {half!r}, which is half of a surrogate pair") from None


_TOO_DEEP = f"it is nested more than {MAX_DEPTH} deep"
_TOO_MUCH = f"it is over {MAX_VALUES:,} values with all aliases (*) spelt out"


def _said(error: Exception) -> str:
    """What a parser has to say, in one line."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        context = getattr(error, "context", None)
        told = ": ".join(part for part in (context, getattr(error, "problem", None)) if part)
        told = f"line {mark.line + 1}, column {mark.column + 1}: {told}"
    else:
        told = str(error)
    if told.startswith("Exceeds the limit"):  # Python's, of digits
        return "it holds a number of thousands of digits"
    told = " ".join(told.split())
    return told if len(told) <= 200 else f"{told[:197]}..."


@cache
def _loader() -> Any:
    """A loader of plain data, on PyYAML's safe one in Python: that in C cannot count its depth."""
    import yaml

    tag = "tag:yaml.org,2002:"

    class Loader(yaml.SafeLoader):
        depth = values = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.depth += 1
            self.values += 1
            if self.depth > MAX_DEPTH or self.values > MAX_VALUES:
                problem = _TOO_DEEP if self.depth > MAX_DEPTH else _TOO_MUCH
                raise yaml.composer.ComposerError(None, None, problem, self.peek_event().start_mark)
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def get_single_node(self) -> Any:
            node = super().get_single_node()
            if node is not None:
                _check_size(node, yaml)
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            if not isinstance(node, yaml.MappingNode):
                raise _constructor_error("expected names with values", node)
            # Merged keys may be given again; that is what merging is for.
            seen: set[Any] = set()
            for key_node, _ in node.value:
                if not isinstance(key_node, yaml.ScalarNode):
                    raise _constructor_error("a key is no plain value", key_node)
                key = self.construct_object(key_node)
                if not isinstance(key, str | int | float | None):
                    raise _constructor_error("a key is no plain value", key_node)
                if key in seen:
                    raise _constructor_error(
                        f"the key {key_node.value[:80]!r} is given twice", key_node
                    )
                seen.add(key)
            return super().construct_mapping(node, deep=True)

        def construct_number(self, node: Any) -> Any:
            text = self.construct_scalar(node)
            if len(text) > 400:
                raise _constructor_error(f"a number of {len(text):,} characters", node)
            try:
                if node.tag == f"{tag}int":
                    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
                word = text.lower().lstrip("+-")
                sign = -1.0 if text.startswith("-") else 1.0
                return sign * float(word.removeprefix(".") if word in (".inf", ".nan") else word)
            except ValueError:
                raise _constructor_error(f"{text[:80]!r} is no number", node) from None

        def construct_truth(self, node: Any) -> bool:
            text = self.construct_scalar(node).lower()
            if text not in ("true", "false"):
                raise _constructor_error(f"{text[:80]!r} is neither true nor false", node)
            return text == "true"

    def _constructor_error(problem: str, node: Any) -> Exception:
        return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)

    known = ("null", "str", "seq", "map")
    safe = yaml.SafeLoader.yaml_constructors
    Loader.yaml_constructors = {f"{tag}{name}": safe[f"{tag}{name}"] for name in known} | {
        f"{tag}merge": safe[f"{tag}str"],
        f"{tag}int": Loader.construct_number,
        f"{tag}float": Loader.construct_number,
        f"{tag}bool": Loader.construct_truth,
        None: safe[None],
    }
    Loader.yaml_implicit_resolvers = {}
    for name, pattern, first in (
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
        ("int", r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o[0-7]+", list("-+0123456789")),
        (
            "float",
            r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)"
            r"|\.(nan|NaN|NAN)",
            list("-+.0123456789"),
        ),
        ("merge", "<<", ["<"]),
    ):
        Loader.add_implicit_resolver(f"{tag}{name}", re.compile(f"(?:{pattern})$"), first)
    return Loader


def _check_size(root: Any, yaml: Any) -> None:
    """Raise for a document that has itself within, or is too much with all aliases spelt out."""
    sizes: dict[int, int] = {}
    open_: set[int] = set()
    # Each node twice: before those below it, and after.
    stack: list[tuple[Any, bool]] = [(root, False)]
    while stack:
        node, after = stack.pop()
        key = id(node)
        if after:
            open_.discard(key)
            sizes[key] = 1 + sum(sizes[id(part)] for part in _parts(node))
            if sizes[key] > MAX_VALUES:
                raise yaml.composer.ComposerError(None, None, _TOO_MUCH, node.start_mark)
        elif key in open_:
            raise yaml.composer.ComposerError(
                None, None, "an alias (*) contains itself", node.start_mark
            )
        elif key not in sizes:
            open_.add(key)
            stack.append((node, True))
            stack.extend((part, False) for part in _parts(node))


def _parts(node: Any) -> Iterator[Any]:
    """The nodes right below one."""
    if isinstance(node.value, list):
        for part in node.value:
            yield from part if isinstance(part, tuple) else (part,)
