"""RepVGG for semantic segmentation, as section 4.3 of the paper describes it (https://arxiv.org/abs/2101.03697)."""
__version__ = '0.1.0'

# Importing registers the backbone in MMEngine's root registry; an exported model runs where neither is installed.
try:
    import mmengine  # noqa: F401
    import torch  # noqa: F401
except ModuleNotFoundError:
    pass
else:
    from . import models  # noqa: F401
