"""The errors that a user can fix. The tools print them as one line; everything else is a bug and keeps its traceback."""
from collections.abc import Iterable

LISTED_NAMES = 5  # Names shown in a message.


class UserError(ValueError):
    """What was asked for cannot be done; the message says what was found, what was expected and what to do."""


class ArgumentTypeError(UserError, TypeError):
    """An argument has the wrong type."""


class CheckpointError(UserError):
    """A checkpoint cannot be read, or does not fit the model."""


class DataError(UserError):
    """A dataset is absent, incomplete or broken.

    Args:
        message: which file, what was found, what to do.
        kind: of the fault, in two words, by which faults are counted.
    """

    def __init__(self, message: str, kind: str = 'incomplete') -> None:
        super().__init__(message)
        self.kind = kind


class TrainingError(UserError):
    """Training cannot go on."""


class Interruption(UserError):
    """A signal asked training to stop, and it did, with a checkpoint where the config has some.

    Args:
        message: where it stopped, and what was left.
        signal: its number.
        resumable: whether a checkpoint was left.
    """

    def __init__(self, message: str, signal: int, resumable: bool = True) -> None:
        super().__init__(message)
        self.signal = signal
        self.resumable = resumable


class InstallationError(UserError, ImportError):
    """A required package is missing, or packages that exclude each other are installed side by side."""


def some(names: Iterable[object]) -> str:
    """The first few of some names, and how many more there are."""
    texts = [text if (text := str(name)).isprintable() else repr(text) for name in names]
    shown = ', '.join(texts[:LISTED_NAMES])
    return f'{shown} and {len(texts) - LISTED_NAMES} more' if len(texts) > LISTED_NAMES else shown
