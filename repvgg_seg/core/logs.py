"""MMEngine's log and histories, imported when they are needed.

Importing MMEngine imports the backbone, and with it most of this room, none of which may be half imported by then.
"""
from types import ModuleType
from typing import Any

from .environment import require_mm


def mmengine_logging() -> ModuleType:
    """MMEngine's module; where MMEngine is missing or broken, the error says how to install it."""
    try:
        from mmengine import logging
    except ModuleNotFoundError:
        require_mm('mmengine')
        raise
    return logging


def print_log(*args: Any, **kwargs: Any) -> None:
    """MMEngine's function of this name."""
    mmengine_logging().print_log(*args, **kwargs)
