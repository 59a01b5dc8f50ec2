"""How long a text is, in the unit that `max_len` is given in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtask.errors import TaskError


@dataclass(frozen=True)
class Length:
    """A unit of length, and the function that counts it.

    Attributes:
        overhead: What a prompt and its target cost besides their own texts.
        source: What makes the units.

    """

    unit: str
    count: Callable[[str], int]
    overhead: int = 0
    source: str = ""

    def __str__(self) -> str:
        return f"{self.unit} {self.source}".strip()


WORDS = Length("words", lambda text: len(text.split()), source="between spaces")
"""For want of a tokenizer; a model's tokens are more."""


def tokens_of(tokenizer: Any, source: str = "") -> Length:
    """Tokens of a tokenizer of transformers; `source` names it, by default as it names itself.

    Overhead are the chat template, if there is one, and four tokens: a base model's prompt and
    target have a beginning, a line break between them and an end, and two texts for an encoder have
    four markers.

    Raises:
        TaskError: It has a chat template that cannot be rendered here.

    """

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False, verbose=False))

    source = source or tokenizer.name_or_path
    overhead = 4
    if tokenizer.chat_template:
        turns = [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]
        try:
            overhead += len(tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False))
        except ImportError as error:
            raise TaskError(f"the chat template of {source!r} needs jinja2: {error}") from error
    return Length("tokens", count, overhead, source=f"of {source}")
