"""The errors that users are meant to see: one clear sentence, no traceback needed."""


class JaxtaskError(ValueError):
    """Something the user gave cannot be used. The message names the file, key or argument."""


class AdapterError(JaxtaskError):
    """An adapter cannot be read, or adapters cannot be compared with each other."""


class ResultError(JaxtaskError):
    """A result cannot be written or read."""


class CorpusError(JaxtaskError):
    """A corpus cannot be read. The message names the file and the line or record."""


class TaskError(JaxtaskError):
    """A task cannot be built: unknown, without examples, or with labels outside its set."""


class ModelError(JaxtaskError):
    """A base model cannot be read, or is not of a supported architecture."""


class TrainingError(JaxtaskError):
    """What a fine-tuning run was asked to do cannot be done."""
