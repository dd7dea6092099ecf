"""Segmenting images, videos, cameras and streams."""
from .predicting import Predicted, predict

__all__ = ['Predicted', 'predict']
