"""Silencing output of dependencies that is useless to users: warnings, prints, and dumps that are also in the log file."""
import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
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
    '``build_pixel_sampler`` would be deprecated',  # MMSegmentation's heads call it for hard pixels.
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


@contextmanager
def without_native_messages() -> Iterator[None]:
    """Discard what libraries in C write to stderr while they try something that may fail, and whose result says so."""
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def keep_from_console(logger: logging.Logger) -> None:
    """Show the messages of ``LOGGED`` in log files only."""
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(_is_for_users)


def _is_for_users(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(LOGGED)
