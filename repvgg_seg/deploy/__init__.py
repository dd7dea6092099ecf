__all__ = ['fuse']


def __getattr__(name: str):
    # Fusing needs PyTorch, running what was exported need not: imported when asked for (PEP 562).
    if name == 'fuse':
        from .fusing import fuse
        return fuse
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
