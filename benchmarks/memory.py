"""How much memory a piece of work takes; the tests use it as well."""

import threading
from pathlib import Path
from typing import Self

EVERY_SECONDS = 0.002


def anonymous() -> int:
    """Bytes of this process's anonymous memory.

    Pages of mapped files do not count: they are the system's to take back.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


class PeakMemory:
    """The most anonymous memory [bytes] while a block runs, and what there was before."""

    def __enter__(self) -> Self:
        self.start = self.peak = anonymous()
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()
        self.peak = max(self.peak, anonymous())

    @property
    def risen(self) -> int:
        """Bytes above what there was before."""
        return self.peak - self.start

    def _watch(self) -> None:
        while not self._done.wait(EVERY_SECONDS):
            self.peak = max(self.peak, anonymous())
