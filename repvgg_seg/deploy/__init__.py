from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .fusing import fuse
    from .identities import split_identities
    from .undilation import undilate

__all__ = ['fuse', 'split_identities', 'undilate']
MODULES = {'fuse': 'fusing', 'split_identities': 'identities', 'undilate': 'undilation'}


def __getattr__(name: str) -> object:
    # These functions need PyTorch, but running an exported model does not, so they are imported on first access (PEP 562).
    if name in MODULES:
        return getattr(import_module(f'.{MODULES[name]}', __name__), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
