"""Public import path of the runtime for exported files, independent of where it is implemented."""
from ..runtime.predictor import Predictor, load

__all__ = ['Predictor', 'load']
