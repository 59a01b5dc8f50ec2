"""How long examples may be, and what each task has of them: said before training starts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from jaxtask.corpora.length import Length
from jaxtask.errors import RecipeError
from jaxtask.finetune.data.chat import Conversation
from jaxtask.finetune.data.examples import EncodedTask
from jaxtask.finetune.data.tokens import Tokens
from jaxtask.finetune.models.config import ModelConfig
from jaxtask.finetune.recipe.settings import PACKED, Recipe

# What a prompt and its target cost without a template: a beginning, a line break and an end; or two
# texts for an encoder, with their four markers.
_OVERHEAD = 4
# Dropped examples of a split from which on it is a warning.
_MANY = 0.1
# Rows of odd lengths are no faster than a little longer ones.
_UNIT = 32


def length_of(tokenizer: Any, source: str) -> Length:
    """What `jaxtask.corpora.tokens_of` says, counted as examples are when they are trained on.

    So what looks like a control token is counted as text, and a chat template is rendered in
    bounded time and memory.

    Raises:
        DataError: As `encode_task` does.

    """
    tokens = Tokens(tokenizer)
    overhead = _OVERHEAD
    if tokens.template:
        turns = [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]
        (text,) = tokens.render([Conversation(turns, source, prompt=False)])
        overhead += len(tokens.encode([tokens.unmask(text)])[0].ids)
    return Length(
        "tokens", lambda text: len(tokens.encode([text])[0].ids), overhead, f"of {source}"
    )


def longest_allowed(recipe: Recipe, config: ModelConfig) -> int:
    """The tokens that an example may have: what the recipe says, or what the base model allows.

    Raises:
        RecipeError: The base model has fewer positions than the recipe asks for.

    """
    given = recipe.training.max_len
    if given is not None and given > config.positions:
        raise RecipeError(
            f"training.max_len is {given}, expected at most {config.positions}, the positions of "
            f"the base model {recipe.base}"
        )
    return config.positions if given is None else given


def with_length(recipe: Recipe, tasks: Sequence[EncodedTask], limit: int) -> Recipe:
    """The recipe with a number for `max_len`: if it has none, what the examples need.

    Rows are padded no further than that, and packed ones hold at least `PACKED` tokens if the base
    allows it, so that what is packed together does not depend on how short examples are.
    """
    if recipe.training.max_len is not None:
        return recipe
    sizes = [len(e.tokens) for task in tasks for own in task.splits.values() for e in own]
    needed = -(-max(sizes, default=1) // _UNIT) * _UNIT
    if recipe.training.packing:
        needed = max(needed, PACKED)
    return replace(recipe, training=replace(recipe.training, max_len=min(limit, needed)))


def say_plan(tasks: Sequence[EncodedTask], limit: int, say: Callable[[str], None]) -> None:
    """Say of each task how many examples it has, and how many are dropped or cut for length."""
    for task in tasks:
        rows = task.rows()
        parts = []
        for split, own in rows.items():
            total = own["used"] + own["dropped"]
            part = f"{own['used']:,} {split} examples"
            if own["dropped"]:
                part = f"{own['used']:,} of {total:,} {split} examples, {own['dropped']:,} dropped"
            if own["truncated"]:
                part += f", {own['truncated']:,} cut"
            parts.append(part)
        lost = any(own["dropped"] or own["truncated"] for own in rows.values())
        why = f" (longer than {limit:,} tokens)" if lost else ""
        say(f"Task {task.name}: {'; '.join(parts)}{why}.")
        for split, own in rows.items():
            total = own["used"] + own["dropped"]
            if own["dropped"] > _MANY * total:
                say(
                    f"Warning: task {task.name}: {own['dropped'] / total:.0%} of its {split} "
                    f"examples are dropped, being longer than max_len = {limit:,} tokens; "
                    "--truncate (training.truncate) cuts their documents instead."
                )
