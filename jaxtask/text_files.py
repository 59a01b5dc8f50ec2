"""JSON and YAML of strangers: plain data in bounded time and memory, or one error that says why."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from jaxtask.errors import JaxtaskError

# Far above what people write by hand or tools write of adapters; far below what fills a memory.
MAX_BYTES = 64 << 20
MAX_YAML_BYTES = 1 << 20
MAX_DEPTH = 100


def read_json(path: str | os.PathLike[str], error: type[JaxtaskError]) -> Any:
    """The value in a JSON file. Raises `error`, naming the file, for all else."""
    return parse_json(read_text(path, error, MAX_BYTES), str(path), error)


def parse_json(text: str | bytes, source: str, error: type[JaxtaskError]) -> Any:
    """The value that `text` is in JSON.

    Args:
        text: JSON; bytes are UTF-8.
        source: What messages name: a file, or a file and line.
        error: What is raised.

    Raises:
        error: It is no JSON, is nested too deeply, has a key twice, or holds numbers of thousands of digits.

    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=_each_key_once)
        _check_depth(value)
    except (ValueError, RecursionError) as found:
        raise error(f"{source}: is not valid JSON: {_said(found)}.") from found
    return value


def read_yaml(path: str | os.PathLike[str], error: type[JaxtaskError]) -> Any:
    """The value in a YAML file. Raises `error`, naming the file, for all else."""
    return parse_yaml(read_text(path, error, MAX_YAML_BYTES), str(path), error)


def parse_yaml(text: str, source: str, error: type[JaxtaskError]) -> Any:
    """The value that `text` is in YAML: plain data, no aliases that multiply, no key twice.

    YAML 1.1 would read 4e-5 as text and take the last of two equal keys.

    Raises:
        error: It is no such YAML. Names `source`.

    """
    import yaml

    try:
        value = yaml.load(text, Loader=_loader())
        _check_depth(value)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as found:
        raise error(f"{source}: is not valid YAML: {_said(found)}.") from found
    return value


def read_text(
    path: str | os.PathLike[str], error: type[JaxtaskError], limit: int = MAX_BYTES
) -> str:
    """The text of a UTF-8 file, at most `limit` bytes of it. Raises `error`, naming the file."""
    path = Path(path)
    try:
        if not path.is_file():
            raise error(f"{path}: {'is not a regular file' if path.exists() else 'no such file'}.")
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as found:
        raise error(f"{path}: cannot be read: {found.strerror or found}.") from found
    if len(content) > limit:
        raise error(f"{path}: has over {limit:,} bytes, which is too much for such a file.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as found:
        raise error(
            f"{path}: is not UTF-8 text: byte {content[found.start]:#04x} at {found.start}."
        ) from found


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for n, key in enumerate(keys) if key in keys[:n])
        raise ValueError(f"the key {twice[:40]!r} is given twice")
    return found


def _check_depth(value: Any, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        for item in value.values():
            _check_depth(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_depth(item, depth + 1)


def _said(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    said = " ".join(str(error).split())
    return said if len(said) <= 200 else said[:197] + "..."


def _loader() -> Any:
    """PyYAML's safe loader, without aliases, with 4e-5 as a number, and no key twice."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                event = self.peek_event()
                raise yaml.composer.ComposerError(
                    None, None, f"aliases (*{event.anchor}) are not read", event.start_mark
                )
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[Any] = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if not isinstance(key, str | int | float | bool | None):
                    raise yaml.constructor.ConstructorError(
                        None, None, "a key is no plain value", key_node.start_mark
                    )
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} is given twice", key_node.start_mark
                    )
                seen.add(key)
            return super().construct_mapping(node, deep=True)

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )
    return Loader
