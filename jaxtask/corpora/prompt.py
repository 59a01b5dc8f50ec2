"""How an instruction and a text become one prompt."""

NEUTRAL = "Summarize the following document."
"""The instruction that every task has with ``prompt="neutral"``."""


def plain_prompt(instruction: str, text: str) -> str:
    """The plain form for base models, which the target follows.

    An instruction in lower case completes the words "In the following document"; one that begins
    with a capital stands for itself. Without an instruction the text is the whole prompt, as it is.
    """
    if not instruction:
        return text
    begin = (
        instruction if instruction[:1].isupper() else f"In the following document, {instruction}"
    )
    return f"{begin} ### Document: {text}"
