from importlib import import_module

MODULES = {'fuse': 'fusing', 'undilate': 'undilation'}
__all__ = list(MODULES)


def __getattr__(name: str):
    # These need PyTorch, running what was exported need not: imported when asked for (PEP 562).
    if name in MODULES:
        return getattr(import_module(f'.{MODULES[name]}', __name__), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
