"""Conversations as a tokenizer's chat template writes them, in bounded time and memory."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxtask.errors import DataError

_PROGRAM = Path(__file__).with_name("_render.py")
# For starting the program, and for each conversation; a template that needs more has no end.
_START, _EACH = 60.0, 0.5
_ROOM = 1 << 20  # characters that a template may write beside the messages


class Conversation(NamedTuple):
    """What is to be rendered.

    Attributes:
        messages: Each with its ``role`` and ``content``.
        source: What messages name.
        prompt: Whether the answer is still to come (``add_generation_prompt``).

    """

    messages: list[dict[str, str]]
    source: str
    prompt: bool


def render(
    template: str, names: Mapping[str, str], conversations: Sequence[Conversation], of: str
) -> list[str]:
    """The texts of conversations, as `apply_chat_template` of transformers renders them.

    Args:
        template: Chat template of a tokenizer, in Jinja.
        names: The tokens that it can name, such as ``bos_token``.
        conversations: What to render.
        of: The tokenizer, for messages.

    Raises:
        DataError: The template is none, raises, writes too much or has no end. Names the tokenizer
            and the conversation's source.

    """
    if not conversations:
        return []
    longest = _ROOM + 8 * max(
        sum(len(message["content"]) for message in one.messages) for one in conversations
    )
    asked = {
        "path": sys.path,
        "template": template,
        "names": dict(names),
        "longest": longest,
        "conversations": [
            {"messages": one.messages, "add_generation_prompt": one.prompt} for one in conversations
        ],
    }
    found = _run(asked, _START + _EACH * len(conversations))
    if "error" in found:
        at = found["at"]
        where = conversations[0 if at is None else at].source
        why = " ".join(found["error"].split())
        raise DataError(f"{where}: the chat template of {of} cannot be rendered: {_cut(why)}")
    return found["texts"]


def _run(asked: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What the program says."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(_PROGRAM)],
            input=json.dumps(asked).encode(),
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"it has not ended after {seconds:g} seconds", "at": None}
    except OSError as error:
        raise DataError(f"{sys.executable}: cannot be started: {error.strerror}") from error
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = said[-1] if said else f"its process ended with status {done.returncode}"
        return {"error": why, "at": None}
    return json.loads(done.stdout)


def _cut(text: str) -> str:
    text = text.rstrip(".")
    return text if len(text) <= 300 else text[:297] + "..."
