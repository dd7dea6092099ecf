"""Building a segmentor with its trained weights, in training form or fused."""
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn

from ..checkpoints import load_model
from ..errors import CheckpointError

FUSED_CONFIG, FUSED_WEIGHTS = 'config.py', 'model.pth'


def resolve(config: Config, checkpoint: str) -> tuple[ConfigDict, Path]:
    """The model config and the weights that a checkpoint argument means.

    Args:
        config: what the user gave; its ``model`` holds for a training checkpoint.
        checkpoint: a file, or the folder that ``tools/deploy.py`` wrote, which has its own model config.

    Raises:
        CheckpointError: a folder without a fused model in it.
    """
    path = Path(checkpoint)
    if not path.is_dir():
        return config.model, path
    if not (path / FUSED_CONFIG).is_file() or not (path / FUSED_WEIGHTS).is_file():
        raise CheckpointError(f'folder {path} holds no {FUSED_CONFIG} and {FUSED_WEIGHTS}; expected a training checkpoint '
                              '(.pth) or a folder that tools/deploy.py wrote')
    return Config.fromfile(path / FUSED_CONFIG).model, path / FUSED_WEIGHTS


def build_segmentor(config: Config, checkpoint: str) -> nn.Module:
    """Build a segmentor on the CPU, in eval mode, and load its weights strictly.

    Raises:
        CheckpointError: the weights cannot be read or do not fit.
    """
    init_default_scope(config.get('default_scope', 'mmseg'))
    model_config, weights = resolve(config, checkpoint)
    model = revert_sync_batchnorm(MODELS.build(model_config))
    load_model(model, weights)
    return model.eval()
