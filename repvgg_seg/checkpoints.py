"""The public name of loading pretrained weights, wherever it is implemented."""
from .models.pretrained import load_pretrained

__all__ = ['load_pretrained']
