"""What packages below us say, and no user of the tools can use: warnings, prints, and dumps that the log file has."""
import io
import logging
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from importlib.util import find_spec

from .environment import WITHOUT_OPERATORS

# How warnings begin that settings of our own configs cause, or that are about none.
WARNINGS = (
    WITHOUT_OPERATORS,
    'Default ``avg_non_ignore`` is False',  # With class weights MMSegmentation supports nothing else.
    'When align_corners=True, the output would more aligned',  # Whatever size the images have.
    'For binary segmentation, we suggest using',  # Two channels can be exported in every format.
    'The draw is False',
)
# How messages of MMEngine begin that the log file alone has.
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
    """Import the datasets of OpenMMLab packages, which print that they miss packages that nobody needs.

    Args:
        packages: import names; those that are not installed are passed over.
    """
    with redirect_stdout(io.StringIO()):
        for package in packages:
            if find_spec(package):
                import_module(f'{package}.datasets')


def is_for_users(record: logging.LogRecord) -> bool:
    """Whether a message is for the console too; a filter of :mod:`logging`."""
    return not record.getMessage().startswith(LOGGED)
