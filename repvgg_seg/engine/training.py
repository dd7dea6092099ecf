"""Training, with what can go wrong checked before it starts."""
from collections.abc import Callable, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from ..errors import UserError
from .hardware import fit_to_hardware


def train(config: Config, check: Callable[[nn.Module, Sequence[DataLoader], Config], None]) -> Path:
    """Train a model.

    Args:
        config: the whole config, ``work_dir`` included.
        check: called before training with the model, the loaders of the training and (if there is one) the validation
            set, and the config; raises UserError where they do not fit together.

    Returns:
        The best checkpoint, or the last one if none was evaluated.

    Raises:
        UserError: data, weights, classes and batch size do not fit together; nothing was trained.
    """
    fit_to_hardware(config)
    fit_batch(config)
    runner = Runner.from_cfg(config)
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    # The loops open the data sets, so that a broken validation set shows now and not after the first epoch.
    loaders = [runner.train_loop.dataloader]
    if runner.val_loop is not None:
        loaders.append(runner.val_loop.dataloader)
    if len(loaders[0]) == 0:
        raise UserError(f'the training set has {len(loaders[0].sampler)} images a process, less than one batch of '
                        f'{loaders[0].batch_size}; add images or set train_dataloader.batch_size')
    check(model, loaders, config)
    log_effective_batch(runner, loaders[0])
    runner.train()
    checkpoints = sorted(Path(runner.work_dir).glob('best_*.pth')) or sorted(Path(runner.work_dir).glob('*.pth'))
    return max(checkpoints, key=lambda path: path.stat().st_mtime)


def fit_batch(config: Config) -> None:
    """Fill in an open ``train_dataloader.batch_size`` (None), and count accumulated gradients as part of the batch.

    An open batch size is an equal share of the batch that the learning rate is for, over the processes and, with
    ``optim_wrapper.accumulative_counts``, over the passes before a step.
    """
    scale = config.get('auto_scale_lr')
    if not scale:
        return
    # MMEngine's scaling knows nothing of accumulation: what it compares with is the batch of one pass.
    scale.base_batch_size = scale.base_batch_size / config.optim_wrapper.get('accumulative_counts', 1)
    if config.train_dataloader.get('batch_size') is None:
        config.train_dataloader.batch_size = max(1, int(scale.base_batch_size) // get_world_size())


def log_effective_batch(runner: Runner, loader: DataLoader) -> None:
    """Log the images a step over all processes, and how the learning rate follows from them."""
    passes = runner.cfg.optim_wrapper.get('accumulative_counts', 1)
    batch, processes = loader.batch_size, get_world_size()
    images = batch * processes * passes
    message = f'Effective batch: {batch} images x {processes} process(es)'
    if passes > 1:
        message += f' x {passes} passes'
    message += f' = {images} images a step'
    scale = runner.cfg.get('auto_scale_lr') or {}
    if scale.get('enable'):
        base = scale['base_batch_size'] * passes
        message += f'; learning rate x {images / base:g} (the config is for {base:g})'
    runner.logger.info(message)
