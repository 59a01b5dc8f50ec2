"""What the machine has."""

import os
import resource
import threading

# What libraries map, and what XLA has for each core: it ends the process where it gets no thread.
_ADDRESSES = 2 << 30
_THREADS_PER_CORE = 12
_STACK = 8 << 20
# Fewer processes and threads than this are a limit that somebody set.
_MANY_THREADS = 4096


def check_limits() -> None:
    """Check that this process may use enough memory, and enough threads, for XLA.

    XLA itself would abort. Only limits of the process are looked at, such as those of ``ulimit``.

    Raises:
        MemoryError: It may not.

    """
    threads = _THREADS_PER_CORE * (os.cpu_count() or 1)
    needed = _ADDRESSES + threads * _STACK
    limit = _limit(resource.RLIMIT_AS)
    if limit is not None and limit < needed:
        raise MemoryError(
            f"this process may map {limit / 1e9:.3g} GB (ulimit -v), and {needed / 1e9:.3g} GB are "
            "needed"
        )
    most = _limit(resource.RLIMIT_NPROC)
    if most is not None and most < _MANY_THREADS and not _can_start(threads):
        raise MemoryError(
            f"no {threads} threads can be started; this user may have {most} (ulimit -u)"
        )


def _limit(kind: int) -> int | None:
    soft, _ = resource.getrlimit(kind)
    return None if soft == resource.RLIM_INFINITY else soft


def _can_start(threads: int) -> bool:
    """Whether so many more threads can run at once."""
    end = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(threads):
            thread = threading.Thread(target=end.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:
        return False
    finally:
        end.set()
        for thread in started:
            thread.join()
    return True


def available_memory() -> int:
    """Bytes of main memory that can be had without swapping."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):  # not Linux: all there is, since what is free is not said portably
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
