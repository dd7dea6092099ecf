"""Training a segmentor, with what can go wrong checked before it starts."""
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import nn
from torch.utils.data import DataLoader

from ..errors import UserError
from .hardware import fit_to_hardware


def train(config: Config) -> Path:
    """Train a segmentor.

    Args:
        config: the whole config, ``work_dir`` included.

    Returns:
        The best checkpoint, or the last one if none was evaluated.

    Raises:
        UserError: data, weights, classes and batch size do not fit together; nothing was trained.
    """
    fit_to_hardware(config)
    runner = Runner.from_cfg(config)
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    # The loops open the data sets, so that a broken validation set shows now and not after the first epoch.
    loaders = [runner.train_loop.dataloader]
    if runner.val_loop is not None:
        loaders.append(runner.val_loop.dataloader)
    for loader in loaders:
        check_classes(model, loader.dataset)
    check_batches(model, loaders[0], bool(config.get('sync_bn')))
    log_effective_batch(runner, loaders[0])
    runner.train()
    checkpoints = sorted(Path(runner.work_dir).glob('best_*.pth')) or sorted(Path(runner.work_dir).glob('*.pth'))
    return max(checkpoints, key=lambda path: path.stat().st_mtime)


def check_classes(model: nn.Module, dataset) -> None:
    """Compare the number of classes of a segmentor and a data set.

    Raises:
        UserError: they differ.
    """
    classes = dataset.metainfo.get('classes') or ()
    for head in model.modules():
        if isinstance(head, BaseDecodeHead) and head.num_classes != len(classes):
            raise UserError(f'{type(head).__name__} has num_classes={head.num_classes}, but {type(dataset).__name__} has '
                            f'{len(classes)} classes; set num_classes of all heads in the config')


def check_batches(model: nn.Module, loader: DataLoader, synchronised: bool) -> None:
    """Check that every training batch has two images where batch norm needs them.

    Args:
        model: the segmentor.
        loader: of the training set.
        synchronised: whether batch norm sees the images of all processes.

    Raises:
        UserError: there is no full batch, or a batch of one meets the batch norm of the 1x1 pooled map.
    """
    images, batch = len(loader.sampler), loader.batch_size
    if len(loader) == 0:
        raise UserError(f'the training set has {images} images a process, less than one batch of {batch}; add images or set '
                        'train_dataloader.batch_size')
    smallest = images % batch if images % batch and not loader.drop_last else batch
    pools_to_one = 1 in getattr(getattr(model, 'decode_head', None), 'pool_scales', ())
    if smallest == 1 and pools_to_one and not (synchronised and get_world_size() > 1):
        raise UserError('a training batch has one image, but the pyramid pools to 1x1, whose batch norm needs at least two '
                        'values a channel; use train_dataloader.batch_size=2 or more, with '
                        'train_dataloader.drop_last=True')


def log_effective_batch(runner: Runner, loader: DataLoader) -> None:
    """Log the images a step over all processes, and how the learning rate follows from them."""
    batch, processes = loader.batch_size, get_world_size()
    scale = runner.cfg.get('auto_scale_lr') or {}
    message = f'Effective batch: {batch} images x {processes} process(es) = {batch * processes} images a step'
    if scale.get('enable'):
        message += (f'; learning rate x {batch * processes / scale["base_batch_size"]:g} '
                    f'(the config is for {scale["base_batch_size"]})')
    runner.logger.info(message)
