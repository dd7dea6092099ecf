"""Fused weights in a format without code, which :mod:`repvgg_seg.deploy.deploying` writes."""
from .format import Format

FORMAT = Format('.safetensors', ('fp32', ), None, ('safetensors', ), extra='hub')
