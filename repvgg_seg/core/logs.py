"""MMEngine's log and histories; where MMEngine is missing or broken, the error says how to install it."""
from .environment import require_mm

try:
    from mmengine.logging import HistoryBuffer, print_log
except ModuleNotFoundError:
    require_mm('mmengine')
    raise

__all__ = ['HistoryBuffer', 'print_log']
