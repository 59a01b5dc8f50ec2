"""Names that become files and folders: names, and nothing else."""

from __future__ import annotations

from jaxtask.errors import JaxtaskError

# What the file systems in use allow is 255 bytes; drafts and suffixes need some of it.
MAX_BYTES = 200


def check_name(name: object, what: str, error: type[JaxtaskError]) -> str:
    """`name`, if it can be the name of one file or folder below a given one.

    Args:
        name: What was given.
        what: What messages call it, such as ``"experiment.yaml: corpora: the name"``.
        error: What is raised.

    Raises:
        error: It is no text, empty, too long, starts with a dot or a dash, or holds a separator, a
            control character or what is not UTF-8.

    """
    if not isinstance(name, str) or not name:
        raise error(f"{what} {name!r}: expected a name.")
    try:
        length = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        raise error(f"{what} {name!r}: is not UTF-8.") from None
    if length > MAX_BYTES:
        raise error(f"{what} {name[:40]!r}…: has {length} bytes, expected {MAX_BYTES} at most.")
    if (
        name[0] in ".-"
        or name != name.strip()
        or any(c in "/\\:" or not c.isprintable() for c in name)
    ):
        raise error(
            f"{what} {name!r}: expected a name without /, \\, : and control characters that starts "
            "with neither a dot nor a dash."
        )
    return name
