from .fusing import fuse

__all__ = ['fuse']
