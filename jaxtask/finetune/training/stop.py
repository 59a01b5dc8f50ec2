"""Ending a run when Ctrl-C or SIGTERM asks for it: after the step, with everything saved."""

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopOnSignal:
    """While it is entered, a signal only sets `asked`; `leave` then does what it asks for.

    Outside of the main thread, where Python cannot catch signals, nothing is changed, and a signal
    that is ignored stays so. What handled the signals before does so again afterwards.

    Attributes:
        asked: The number of the signal that came, or 0.

    """

    asked = 0

    def __enter__(self) -> "StopOnSignal":
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                # None is a handler that Python cannot put back.
                if signal.getsignal(number) not in (None, signal.SIG_IGN):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.asked and kind is None:
            self.leave("after the last step; all is saved")

    def leave(self, where: str) -> NoReturn:
        """Raise what the signal's handler before this one raises, or `SystemExit`.

        That is KeyboardInterrupt for Ctrl-C in Python's own hands. The status of a process that
        ends by it is 130 for Ctrl-C and 143 for SIGTERM.

        Args:
            where: Added to the exception as a note: where it stopped, and how to resume.

        """
        handler = self._before.get(self.asked)
        try:
            if callable(handler):
                handler(self.asked, None)
            sys.exit(128 + self.asked)
        except BaseException as end:
            end.add_note(where)
            raise

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = number
