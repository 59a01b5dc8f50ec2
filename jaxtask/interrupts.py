"""How a command ends when it is asked to, by Ctrl-C (SIGINT) or SIGTERM: in good order, and soon.

The first signal raises `Stopped`, which removes drafts and releases locks on its way out. Whoever
must not be cut short, such as a training step, puts its own handler in the place of ours meanwhile.
A second signal ends the process at once.

Python runs a handler between two bytecodes of the main thread: never while a library computes or
compiles. What it raises is lost where nobody can catch it, as in the callback that JAX has the
garbage collector call. And where an extension module begins, which calls Python and expects no
error, it crashes the process: jaxlib ends by a segmentation fault then. So the handler waits there,
and a thread watches: it has the handler run again until the process ends, and ends the process
itself when the handler cannot run.
"""

import _thread
import atexit
import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import NoReturn

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
_GRACE = 5.0  # seconds in which the main thread does not come back from a library
_AGAIN = 0.1  # seconds between attempts


class Stopped(SystemExit):
    """A signal asks the process to end; `code` is 128 + its number, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.name = NAMES[signal.Signals(number)]


class Interrupts:
    """The handlers of a process, and the thread that watches them.

    Args:
        grace: Seconds after which the process ends although its main thread does not answer.

    """

    def __init__(self, grace: float = _GRACE) -> None:
        self._grace = grace
        self._how_to_go_on = ""
        self._resent = 0
        self._ran = 0.0  # when the handler ran last
        self._unwinding = False
        self._over = False

    def install(self) -> None:
        """Take the signals; one that was ignored, as those of a `nohup` are, stays so."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        for number in NAMES:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(
            target=self._watch, args=(reading,), name="interrupts", daemon=True
        ).start()

    def going_on(self, how: str) -> None:
        """Say how to resume after a signal, in a sentence's words, where nobody says it better."""
        self._how_to_go_on = how

    def told(self, stop: Stopped) -> str:
        """What to say at the end: where it stopped, and how to resume."""
        notes = getattr(stop, "__notes__", None) or [self._how_to_go_on]
        return "; ".join([f"stopped by {stop.name}", *filter(None, notes)])

    def leave(self, stop: Stopped) -> NoReturn:
        """End the process after `stop` has come all the way up.

        What Python has to end is ended: its threads are joined, what was registered with `atexit`
        is run, the streams are flushed. The threads of XLA, LLVM and TensorStore are not Python's:
        nobody can join them, and while the interpreter and the libraries' own variables are torn
        down under them the process can crash. So that is left out.
        """
        self._over = True
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(int(stop.code or 0))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._ran = time.monotonic()
        self._unwinding = self._over or _is_stopping()
        if not self._unwinding and not _is_begun_by_a_library(frame):
            raise Stopped(number)

    def _watch(self, reading: int) -> None:
        first, asked = 0, 0.0
        while True:
            ready, _, _ = select.select([reading], [], [], _AGAIN if first else None)
            for number in (n for n in os.read(reading, 64) if n in NAMES) if ready else ():
                if self._resent:
                    self._resent -= 1
                elif first:
                    self._end(number)
                else:
                    first, asked = number, time.monotonic()
            if not first or self._over:
                continue
            if signal.getsignal(first) != self._handle:  # somebody finishes something
                asked = time.monotonic()
            elif self._unwinding:
                self._again(first)
            elif time.monotonic() - max(asked, self._ran) > self._grace:
                self._end(first)
            elif self._ran:
                self._again(first)

    def _again(self, number: int) -> None:
        """Have the handler run, now that what it raised may have been lost."""
        if not self._resent:
            self._resent += 1
            _thread.interrupt_main(signal.Signals(number))

    def _end(self, number: int) -> None:
        """End the process at once, whatever the main thread does."""
        stop = Stopped(number)
        with suppress(OSError):
            if os.isatty(2):
                os.write(2, b"\x1b[?25h")  # a progress display hides the cursor
            told = "; ".join(filter(None, ["ended at once", self._how_to_go_on]))
            os.write(2, f"\njaxtask: {stop.name}: {told}\n".encode())
        os._exit(int(stop.code or 0))


def _is_begun_by_a_library(frame: FrameType | None) -> bool:
    """Whether an extension module is being imported: its code called what runs now."""
    while frame is not None:
        if frame.f_code.co_qualname.startswith("ExtensionFileLoader."):  # of importlib
            return True
        frame = frame.f_back
    return False


def _is_stopping() -> bool:
    """Whether what runs now does so because a `Stopped` was raised: it cleans up."""
    error = sys.exc_info()[1]
    while error is not None:
        if isinstance(error, Stopped):
            return True
        error = error.__context__
    return False


interrupts = Interrupts()
"""Of this process; a command line installs it."""
