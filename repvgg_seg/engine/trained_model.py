"""Build a segmentor or classifier with its trained weights, in training form or fused."""
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from ..core.command_names import command
from ..core.errors import CheckpointError
from ..core.reading import read_checkpoint, trusted
from ..core.run_checkpoints import find_checkpoint
from ..core.tasks import MODEL_KINDS, task_of
from ..models.pretrained import load_model
from ..models.weights import state_dict_of
from ..runtime.predictor import check_hash
from ..runtime.report import REPORT, read_report
from .model_check import check_model, preprocessor_of
from .plain_config import check_words, read_plain_config
from .safe_loading import load_safely

FUSED_CONFIG = 'config.py'
FUSED_WEIGHTS = {'pth': 'model.pth', 'safetensors': 'model.safetensors'}  # Format -> file; the first in a folder is loaded.


def resolve(config: Config, checkpoint: str) -> str:
    """Find the weights for a checkpoint argument, and change the config's ``model`` to the model of these weights.

    Args:
        config: config of the user, whose ``model`` is that of a training checkpoint. If a classifier's number of classes is
            None, the weights determine it.
        checkpoint: file or URL; folder that ``repvgg-seg deploy`` wrote, which has its own model config; or work dir, of which
            the best checkpoint is used, or the last one if none was evaluated.

    Returns:
        Path or URL of the weights.

    Raises:
        CheckpointError: the folder contains no fused model of this kind, or a file cannot be read.
        UserError: a file in the folder was changed.
    """
    if Path(checkpoint).is_dir():
        folder = Path(checkpoint)
        if trained := checkpoint_in(folder):
            return resolve(config, str(trained))
        weights_files = [folder / name for name in FUSED_WEIGHTS.values() if (folder / name).is_file()]
        if not (folder / FUSED_CONFIG).is_file() or not weights_files:
            raise CheckpointError(f'folder {folder} holds no {FUSED_CONFIG} and {FUSED_WEIGHTS["pth"]}; expected a training '
                                  f'checkpoint (.pth) or a folder that {command("deploy")} wrote')
        fused = read_plain_config(folder / FUSED_CONFIG).get('model')
        if not isinstance(fused, dict):
            raise CheckpointError(f'{folder / FUSED_CONFIG} has no model; write the folder again with {command("deploy")}')
        found, expected = MODEL_KINDS[task_of(fused)], MODEL_KINDS[task_of(config.model)]
        if found != expected:
            raise CheckpointError(f'folder {folder} holds a fused {found}, the config is for a {expected}; give the config '
                                  'that it was trained with')
        if not trusted():
            check_words(fused, config.model, folder)
            check_files(folder)
        config.model, checkpoint = ConfigDict(fused), str(weights_files[0])
    head = config.model.get('head')
    if head and head.get('num_classes', ...) is None:
        weights = state_dict_of(read_checkpoint(checkpoint), checkpoint)
        if 'head.fc.bias' not in weights:
            raise CheckpointError(f'checkpoint {checkpoint} holds no classifier (head.fc); expected one that '
                                  f'{command("classify-train")} wrote')
        head.num_classes = len(weights['head.fc.bias'])
    return checkpoint


def checkpoint_in(folder: Path) -> Path | None:
    """Best checkpoint in a work dir, or the last one if none was evaluated; None if the folder is not a work dir."""
    return None if is_fused(folder) else find_checkpoint(folder)


def is_fused(folder: Path) -> bool:
    """Whether a folder is one of a fused model. A work dir also has a ``config.py`` if the config has this name."""
    return (folder / FUSED_CONFIG).exists() and any((folder / name).exists() for name in (REPORT, *FUSED_WEIGHTS.values()))


def check_files(folder: Path) -> None:
    """Compare the files of a fused model with the hashes in its ``deploy.json``, if it has one with hashes.

    Raises:
        UserError: they differ, or ``deploy.json`` is invalid.
    """
    if (folder / REPORT).is_file():
        hashes = read_report(folder).get('files', {})
        for name in (FUSED_CONFIG, *FUSED_WEIGHTS.values()):
            if (folder / name).is_file():
                check_hash(folder / name, hashes.get(name))


def build_trained(config: Config, checkpoint: str) -> tuple[nn.Module, dict]:
    """Build a model on the CPU, in eval mode, and load its weights strictly.

    Returns:
        The model, and the checkpoint's ``meta``.

    Raises:
        UserError: the model's config contradicts itself, see :func:`~repvgg_seg.engine.model_check.check_model`.
        CheckpointError: the weights cannot be read or do not match the model.
    """
    init_default_scope(config.get('default_scope', 'mmseg'))
    weights = resolve(config, checkpoint)
    check_model(config)
    if preprocessor := preprocessor_of(config):
        config.model.data_preprocessor = preprocessor  # As in MMEngine's runner.
    load_safely()
    model = revert_sync_batchnorm(MODELS.build(config.model))
    return model.eval(), load_model(model, weights)
