"""RepVGG for semantic segmentation, as section 4.3 of the paper describes it (https://arxiv.org/abs/2101.03697)."""
from .registration import register_with_mmengine

__version__ = '0.1.0'

register_with_mmengine()
