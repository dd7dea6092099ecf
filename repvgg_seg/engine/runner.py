"""MMEngine's runner and loops, extended so that a run can be stopped anywhere and resumed as if it had never stopped."""
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.device import get_device
from mmengine.hooks import EMAHook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop as _MMEngineLoop
from mmengine.runner import IterBasedTrainLoop as _MMEngineIterLoop
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch import nn
from torch.utils.data import DataLoader

from ..core.config_types import type_name
from ..core.errors import UserError
from ..core.reading import read_checkpoint
from ..models.pretrained import load_beginning, load_model_state
from ..registry import LOOPS
from .checkpointing import CheckpointHook
from .console import ConciseRunner
from .hardware import keep_logits_in_float32, use_channels_last
from .optimization import describe, idle_end, merge_groups, resume_optimization
from .resuming import fresh_start
from .seeded_data import RepeatableSampler, make_repeatable

# Maps MMEngine's types in a config to ours, which extend them with the guarantees of this module and checkpointing.py.
DURABLE = {name: f'repvgg_seg.{name}' for name in ('CheckpointHook', 'EpochBasedTrainLoop', 'IterBasedTrainLoop')}
HOOKS = ('FiniteLossHook', 'StopHook', 'LiveLineHook')


def make_durable(config: Config) -> None:
    """Replace MMEngine's loop and checkpoint hook in a config by ours, and add our other hooks."""
    if 'by_epoch' in config.train_cfg:
        config.train_cfg.type = 'EpochBasedTrainLoop' if config.train_cfg.pop('by_epoch') else 'IterBasedTrainLoop'
    config.default_hooks = config.get('default_hooks') or {}
    config.default_hooks.setdefault('checkpoint', dict(type='CheckpointHook', interval=1))  # MMEngine's default.
    for part in (config.train_cfg, config.default_hooks.checkpoint or {}):
        if type_name(part) in DURABLE:
            part['type'] = DURABLE[type_name(part)]
    hooks = config.get('custom_hooks') or []
    absent = [name for name in HOOKS if name not in map(type_name, hooks)]
    config.custom_hooks = [*hooks, *(dict(type=f'repvgg_seg.{name}') for name in absent)]


@LOOPS.register_module()
class EpochBasedTrainLoop(_MMEngineLoop):
    """MMEngine's epoch-based loop, which can also start in the middle of an epoch.

    Attributes:
        epoch_begin: number of completed iterations at the beginning of the epoch.
    """
    epoch_begin = 0

    def run_epoch(self) -> None:
        """Run the rest of an epoch."""
        if done := self.iter - self.epoch_begin:
            self.dataloader.sampler.skip(done * self.dataloader.batch_size)
        super().run_epoch()
        self.epoch_begin = self.iter

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Run an iteration, whose index is counted from the beginning of the epoch."""
        super().run_iter(self.iter - self.epoch_begin, data_batch)


class Batches(_InfiniteDataloaderIterator):
    """MMEngine's infinite iterator, which can also skip ahead over several epochs if the sampler is finite."""

    def skip_iter(self, num_iters: int) -> None:
        """Skip the batches of completed iterations."""
        sampler = self._dataloader.sampler
        if isinstance(sampler, RepeatableSampler) and not isinstance(sampler.sampler, InfiniteSampler):
            self._epoch, num_iters = divmod(num_iters, len(self._dataloader))
            sampler.set_epoch(self._epoch)
        super().skip_iter(num_iters)


@LOOPS.register_module()
class IterBasedTrainLoop(_MMEngineIterLoop):
    """MMEngine's iteration-based loop, with :class:`Batches`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dataloader_iterator = Batches(self.dataloader)


class Runner(ConciseRunner):
    """MMEngine's runner, with safe checkpoint loading and data that does not depend on processes, workers, or interruptions.

    Attributes:
        record: additional entries for the ``meta`` of each checkpoint.
    """
    record: Mapping = {}

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False) -> DataLoader:
        """Build a data loader; see :func:`repvgg_seg.engine.seeded_data.make_repeatable`."""
        return make_repeatable(ConciseRunner.build_dataloader(dataloader, seed, diff_rank_seed), seed or 0)

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model in the memory format of the config; its segmentation heads give logits in float32."""
        built = super().build_model(model)
        keep_logits_in_float32(built)
        if self.cfg.get('channels_last'):
            use_channels_last(built, get_device())
        return built

    def build_optim_wrapper(self, optim_wrapper: OptimWrapper | dict) -> OptimWrapper | OptimWrapperDict:
        """Build the optimizer wrapper, with as few parameter groups as possible."""
        built = super().build_optim_wrapper(optim_wrapper)
        for wrapper in built.values() if isinstance(built, OptimWrapperDict) else [built]:
            merge_groups(wrapper.optimizer)
        return built

    def load_or_resume(self) -> None:
        """Record the optimization settings of the config, then load or resume a checkpoint if the config specifies one."""
        if isinstance(self.optim_wrapper, OptimWrapper):  # It is not built if only validation or testing is run.
            if (idle := idle_end(self)) and not self._resume:
                self.logger.warning(idle)
            self.record = {**self.record, 'optimization': describe(self)}
        super().load_or_resume()

    def resume(self, filename: str, *_: Any, **__: Any) -> None:
        """Resume from a checkpoint with the config's settings; see
        :func:`~repvgg_seg.engine.optimization.resume_optimization`.

        Args:
            filename: path or URL of the checkpoint.

        Raises:
            UserError: the config cannot resume from the checkpoint; the message explains why, and what to do.
        """
        checkpoint = self.load_checkpoint(filename)
        meta, loop = checkpoint['meta'], self.train_loop
        loop._iter, loop._epoch = meta['iter'], meta['epoch']
        if isinstance(loop, _MMEngineIterLoop):
            loop._epoch = 0  # MMEngine adds an epoch when training ends, even if more iterations follow later.
        else:
            into_epoch = meta.get('into_epoch', 0 if meta['epoch'] else meta['iter'])  # MMEngine does not record it.
            loop.epoch_begin = meta['iter'] - into_epoch
            if (loop.epoch_begin and not meta['epoch']) or into_epoch > 1.01 * len(loop.dataloader):
                raise UserError(f'{filename} was trained with IterBasedTrainLoop, the config has EpochBasedTrainLoop, which '
                                'needs an epoch to go on from; resume with train_cfg as it was, or '
                                f'{fresh_start(filename)}')
        if idle := idle_end(self):
            before = checkpoint['message_hub'].get('runtime_info', {}).get('max_iters')
            if before != self.max_iters:
                raise UserError(f'{filename} is of a training of {before} iterations: {idle}')
            self.logger.warning(idle)
        self.message_hub.load_state_dict(checkpoint['message_hub'])
        changed = resume_optimization(self, checkpoint, filename)
        if changed:
            rates = sorted({rate for group in self.optim_wrapper.get_lr().values() for rate in group})
            self.logger.warning(f'The settings of optimizer or schedule are not those of {filename}; from here on they are as '
                                f'in the config, with a learning rate of {", ".join(f"{rate:g}" for rate in rates)}')
        self.logger.info(f'resumed epoch: {self.epoch}, iter: {self.iter}')

    def load_checkpoint(self, filename: str, map_location: str | Callable = 'cpu', strict: bool = True,
                        revise_keys: Sequence = ()) -> dict:
        """Load the weights to resume from or (``load_from`` without ``resume``) to start from.

        MMEngine would load files that are rejected here, run any code in them, and keep whatever weights happen to match.

        Args:
            filename: path or URL of the checkpoint.
            map_location, strict, revise_keys: unused arguments of MMEngine's method.

        Returns:
            The checkpoint, on the CPU.

        Raises:
            CheckpointError: the checkpoint cannot be read or does not match the model.
        """
        checkpoint = dict(read_checkpoint(filename))
        if self._resume and not any(isinstance(hook, EMAHook) for hook in self.hooks):
            # MMEngine's EMA hook saves the averages in place of the trained weights, and the trained weights as the averages.
            trained = {key: checkpoint['ema_state_dict'][f'module.{key}'] for key in checkpoint['state_dict']
                       if f'module.{key}' in checkpoint.get('ema_state_dict', {})}
            checkpoint = {**checkpoint, 'state_dict': {**checkpoint['state_dict'], **trained}}
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        (load_model_state if self._resume else load_beginning)(model, checkpoint, filename)
        self._has_loaded = True
        self.logger.info(f'Loaded {filename}')
        return checkpoint

    def save_checkpoint(self, *args: Any, meta: dict | None = None, by_epoch: bool = True, **kwargs: Any) -> None:
        """Save a checkpoint as MMEngine does, and add the run's ``record`` and the position in the epoch to its ``meta``."""
        meta = {'epoch': self.epoch + by_epoch, 'iter': self.iter + (not by_epoch), **self.record, **(meta or {})}
        begin = getattr(self.train_loop, 'epoch_begin', None)
        meta['into_epoch'] = 0 if begin is None or meta['epoch'] > self.epoch else meta['iter'] - begin
        super().save_checkpoint(*args, meta=meta, by_epoch=by_epoch, **kwargs)

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call hooks. Around the validation hooks, call the checkpoint hooks while the model has its training weights."""
        savers = [hook for hook in self.hooks if isinstance(hook, CheckpointHook)]
        if fn_name == 'before_val':
            for saver in savers:
                saver.before_validation(self)
        super().call_hook(fn_name, **kwargs)
        if fn_name == 'after_val':
            for saver in savers:
                saver.after_validation(self)
