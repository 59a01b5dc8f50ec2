"""One comparison by several processes under `jax.distributed`, or by one."""

import json
from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import numpy as np

from jaxtask.errors import ResultError

_T = TypeVar("_T")

_LETTER_BYTES = 1 << 12


def leads() -> bool:
    """Whether this process prepares and ends what all work on."""
    return jax.process_index() == 0


def share(items: Sequence[_T]) -> Sequence[_T]:
    """Those that this process takes: one in as many as there are processes, so of each kind."""
    return items[jax.process_index() :: jax.process_count()]


def first(prepare: Callable[[], bool]) -> bool:
    """What `prepare` says in the process that leads; the others wait for it.

    Raises:
        Exception: What `prepare` raises; a `ResultError` of the same words in the other processes.

    """
    if jax.process_count() == 1:
        return prepare()
    if not leads():
        letter = _broadcast({})
        if "error" in letter:
            raise ResultError(letter["error"])
        return bool(letter["said"])
    try:
        said = prepare()
    except BaseException as error:
        _broadcast({"error": str(error)[: _LETTER_BYTES // 8] or type(error).__name__})
        raise
    _broadcast({"said": said})
    return said


def _broadcast(letter: dict[str, object]) -> dict[str, object]:
    """The leading process's letter, in all of them."""
    from jax.experimental.multihost_utils import broadcast_one_to_all

    text = json.dumps(letter).encode().ljust(_LETTER_BYTES)
    there = np.asarray(broadcast_one_to_all(np.frombuffer(text, np.uint8)))
    return json.loads(there.tobytes())
