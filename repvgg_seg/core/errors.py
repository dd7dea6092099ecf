"""Errors that a user can fix. The tools print them as one line; any other exception is a bug and keeps its traceback."""
from collections.abc import Iterable

LISTED_NAMES = 5  # Maximum number of names listed in a message.


class UserError(ValueError):
    """The request cannot be fulfilled; the message says what was found, what was expected and what to do."""


class ArgumentTypeError(UserError, TypeError):
    """An argument has the wrong type."""


class CheckpointError(UserError):
    """A checkpoint cannot be read or does not fit the model."""


class DataError(UserError):
    """A dataset is missing, incomplete or broken.

    Args:
        message: which file is faulty, what was found, and what to do.
        kind: kind of fault, in two words, by which faults are counted.
    """

    def __init__(self, message: str, kind: str = 'incomplete') -> None:
        super().__init__(message)
        self.kind = kind


class TrainingError(UserError):
    """Training cannot continue."""


class Interruption(UserError):
    """A signal asked training to stop, and it did, leaving a checkpoint if the config saves checkpoints.

    Args:
        message: where training stopped, and what it left.
        signal: number of the signal.
        resumable: whether a checkpoint was left.
    """

    def __init__(self, message: str, signal: int, resumable: bool = True) -> None:
        super().__init__(message)
        self.signal = signal
        self.resumable = resumable


class InstallationError(UserError, ImportError):
    """A required package is missing, or conflicting packages are installed side by side."""


def some(names: Iterable[object]) -> str:
    """List the first few of some names, and the number of remaining ones."""
    texts = [text if (text := str(name)).isprintable() else repr(text) for name in names]
    shown = ', '.join(texts[:LISTED_NAMES])
    return f'{shown} and {len(texts) - LISTED_NAMES} more' if len(texts) > LISTED_NAMES else shown
