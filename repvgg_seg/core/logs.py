"""MMEngine's logging functions and histories, imported only when they are needed.

Importing MMEngine also imports the backbone, and with it most of ``core``, whose modules must be fully imported by then.
"""
from types import ModuleType
from typing import Any

from .environment import require_mm


def mmengine_logging() -> ModuleType:
    """Import MMEngine's logging module; if MMEngine is missing or broken, the error says how to install it."""
    try:
        from mmengine import logging
    except ModuleNotFoundError:
        require_mm('mmengine')
        raise
    return logging


def print_log(*args: Any, **kwargs: Any) -> None:
    """MMEngine's function of the same name."""
    mmengine_logging().print_log(*args, **kwargs)
