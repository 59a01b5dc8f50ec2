"""How long a text is, in the unit that `max_len` is given in."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtask.errors import TaskError


@dataclass(frozen=True)
class Length:
    """A unit of length, and the function that counts it."""

    unit: str
    count: Callable[[str], int]
    overhead: int = 0
    """What a prompt and its target cost besides their own texts."""
    source: str = ""
    """What makes the units."""

    def __str__(self) -> str:
        return f"{self.unit} {self.source}".strip()


WORDS = Length("words", lambda text: len(text.split()), source="between spaces")
"""For want of a tokenizer; a model's tokens are more."""


def tokens_of(tokenizer: str) -> Length:
    """Tokens of a tokenizer (a folder, or an id in the local cache) that transformers reads.

    Overhead are the chat template, if there is one, and four tokens: a base model's prompt and
    target have a beginning, a line break between them and an end, and two texts for an encoder have
    four markers.

    Raises:
        TaskError: There is no such tokenizer.

    """
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise TaskError(f"tokenizer {tokenizer!r} cannot be loaded: {reason}") from error

    def count(text: str) -> int:
        return len(loaded.encode(text, add_special_tokens=False, verbose=False))

    overhead = 4
    if loaded.chat_template:
        turns = [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]
        try:
            overhead += len(loaded.apply_chat_template(turns, tokenize=True, return_dict=False))
        except ImportError as error:
            raise TaskError(f"the chat template of {tokenizer!r} needs jinja2: {error}") from error
    return Length("tokens", count, overhead, source=f"of {tokenizer}")
