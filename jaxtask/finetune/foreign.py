"""What libraries of others raise for files that they cannot read: anything, or a panic."""


def is_fault(error: BaseException) -> bool:
    """Whether a library failed; the panics of those in Rust are no `Exception`."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def said(error: BaseException) -> str:
    """What it said, in one line that is not too long."""
    text = " ".join((str(error).strip() or repr(error)).split())
    return text if len(text) <= 200 else text[:197] + "..."
