"""Ending a run when the system asks for it: after the step, with everything saved."""

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

STATUS = 128 + signal.SIGTERM


class StopOnTerm:
    """While it is entered, SIGTERM only sets `asked`; `leave` then ends the process.

    Outside of the main thread, where Python cannot catch signals, nothing is changed. What handled
    the signal before does so again afterwards.
    """

    asked = False

    def __enter__(self) -> "StopOnTerm":
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def leave(self) -> None:
        """End the process with the exit status of a SIGTERM, 143."""
        sys.exit(STATUS)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
