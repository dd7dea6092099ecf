from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .fusing import fuse
    from .undilation import undilate

__all__ = ['fuse', 'undilate']
MODULES = {'fuse': 'fusing', 'undilate': 'undilation'}


def __getattr__(name: str) -> object:
    # These need PyTorch, running what was exported need not: imported when asked for (PEP 562).
    if name in MODULES:
        return getattr(import_module(f'.{MODULES[name]}', __name__), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
