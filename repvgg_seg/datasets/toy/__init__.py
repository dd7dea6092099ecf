"""Procedurally drawn street scenes."""
from .canvas import CLASSES
from .files import write_toy_streets
from .scenes import draw_scene

__all__ = ['CLASSES', 'draw_scene', 'write_toy_streets']
