"""RepVGG for semantic segmentation, as section 4.3 of the paper describes it (https://arxiv.org/abs/2101.03697)."""
from importlib.util import find_spec

__version__ = '0.1.0'

# Importing registers the backbone in MMEngine's root registry, where MMEngine is installed; a fused model runs without.
if find_spec('mmengine') is not None:
    from . import models  # noqa: F401
