"""The public name of running exported files, wherever it is implemented."""
from ..runtime.predictor import Predictor, load

__all__ = ['Predictor', 'load']
