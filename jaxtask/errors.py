"""The errors that users are meant to see: one clear sentence, no traceback needed."""


class JaxtaskError(ValueError):
    """Something the user gave cannot be used. The message names the file, key or argument."""


class AdapterError(JaxtaskError):
    """An adapter cannot be read, or adapters cannot be compared with each other."""


class ResultError(JaxtaskError):
    """A result cannot be written or read."""


class RecipeError(JaxtaskError):
    """A recipe or one of its settings cannot be used."""


class DataError(JaxtaskError):
    """A task's data cannot be used: a file, a line, a label, or the tokenizer they meet."""


class CheckpointError(JaxtaskError):
    """A checkpoint cannot be written or read."""


class TrainingError(JaxtaskError):
    """Training cannot go on."""
