"""Silencing output of dependencies that is useless to users: warnings, prints, and dumps that are also in the log file."""
import io
import logging
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from importlib.util import find_spec

from .environment import WITHOUT_OPERATORS

# Beginnings of warnings that settings of our own configs cause, or that do not indicate a problem.
WARNINGS = (
    WITHOUT_OPERATORS,
    'Default ``avg_non_ignore`` is False',  # MMSegmentation supports nothing else with class weights.
    'When align_corners=True, the output would more aligned',  # Issued for any image size.
    'For binary segmentation, we suggest using',  # Every export format supports two channels.
    'The draw is False',
)
# Beginnings of MMEngine's messages that go only to the log file.
LOGGED = (
    f'\n{"-" * 60}\nSystem environment:', 'Config:\n', 'Hooks will be executed in the following order:',
    'paramwise_options -- ', 'The prefix is not set in metric class',
    '"FileClient" will be deprecated', '"HardDiskBackend" is the alias',
)


def mute_warnings() -> None:
    """Ignore these warnings in this process."""
    for message in WARNINGS:
        warnings.filterwarnings('ignore', message)


def import_quietly(packages: Sequence[str]) -> None:
    """Import the datasets of OpenMMLab packages without their printed messages about missing packages that nobody needs.

    Args:
        packages: import names; packages that are not installed are skipped.
    """
    with redirect_stdout(io.StringIO()):
        for package in packages:
            if find_spec(package):
                import_module(f'{package}.datasets')


def is_for_users(record: logging.LogRecord) -> bool:
    """Whether a message should also go to the console; a :mod:`logging` filter."""
    return not record.getMessage().startswith(LOGGED)
