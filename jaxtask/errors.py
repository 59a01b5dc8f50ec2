"""The errors that users are meant to see: one clear sentence, no traceback needed."""


class JaxtaskError(ValueError):
    """Something the user gave cannot be used. The message names the file, key or argument."""


def shown(value: object, longest: int = 200) -> str:
    """What was found, for messages: its repr in one line, cut short, whatever it is."""
    try:
        text = repr(value)
    # Whole numbers of thousands of digits, and lists within lists without end.
    except (ValueError, RecursionError):
        return f"of the type {type(value).__name__}, too large to be shown"
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


class AdapterError(JaxtaskError):
    """An adapter cannot be read, or adapters cannot be compared with each other."""


class ResultError(JaxtaskError):
    """A result cannot be written or read."""


class AnalysisError(JaxtaskError):
    """Findings cannot be made of a result: what they need is not in it, or groups do not fit."""


class CorpusError(JaxtaskError):
    """A corpus cannot be read. The message names the file and the line or record."""


class TaskError(JaxtaskError):
    """A task cannot be built: unknown, without examples, or with labels outside its set."""


class ModelError(JaxtaskError):
    """A base model cannot be read, or is not of a supported architecture."""


class RecipeError(JaxtaskError):
    """A recipe or one of its settings cannot be used."""


class DataError(JaxtaskError):
    """A task's data cannot be used: a file, a line, a label, or the tokenizer they meet."""


class CheckpointError(JaxtaskError):
    """A checkpoint cannot be written or read."""


class TrainingError(JaxtaskError):
    """Training cannot continue, or what it was asked to do cannot be done."""


class ReportError(JaxtaskError):
    """A report cannot be made of a result, or not as it was asked for."""


class ExperimentError(JaxtaskError):
    """An experiment, or what an earlier run of it has left, cannot be used."""
