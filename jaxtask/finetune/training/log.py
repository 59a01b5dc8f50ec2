"""What happened in a run, as JSON lines: one event a line, written at once."""

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from jaxtask.errors import TrainingError
from jaxtask.folders import new_file
from jaxtask.text_files import parse_json


class MetricsLog:
    """Events of a run, each with its name, its step and the time (seconds since 1970).

    A run that resumes from a checkpoint first drops the events after its step, which will happen
    again, and a last line that was cut off; so the file reads like that of an uninterrupted run.
    With `owed`, what follows the step's training happens again as well.

    Raises:
        TrainingError: The file cannot be read or written, or is no such log.

    """

    def __init__(self, path: Path, after: int | None = None, owed: bool = False) -> None:
        self.path = path
        try:
            kept = [] if after is None or not path.exists() else _until(path, after, owed)
            path.parent.mkdir(parents=True, exist_ok=True)
            with new_file(path) as file:
                file.write("".join(kept).encode())
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise TrainingError(f"{path}: cannot be written: {error}") from error

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def write(self, event: str, step: int, **fields: Any) -> None:
        """Add one event; `fields` are JSON-able."""
        line = {"event": event, "step": step, "time": round(time.time(), 3), **fields}
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be written: {error}") from error


def read_log(path: Path) -> list[dict[str, Any]]:
    """All events in the order they happened."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [parse_json(line, f"{path}, line {n}", TrainingError) for n, line in enumerate(lines, 1)]


def _until(path: Path, step: int, owed: bool) -> list[str]:
    """The lines of events up to a step, without its evaluation if that is owed."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    try:
        events = [parse_json(line, str(path), TrainingError) for line in lines]
        return [
            line
            for line, event in zip(lines, events, strict=True)
            if event["step"] < step
            or (event["step"] == step and not (owed and event["event"] in ("eval", "end")))
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path}: is no log of a run, so it is left alone") from error
