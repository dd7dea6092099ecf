"""Fused weights for MMSegmentation and MMPretrain, which :mod:`repvgg_seg.deploy.deploying` writes."""
from .format import Format

FORMAT = Format('.pth', ('fp32', ), None)
