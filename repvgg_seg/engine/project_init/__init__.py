"""From a folder of images and labels to a config that trains."""
from .initializing import Initialized, initialize

__all__ = ['Initialized', 'initialize']
