"""Making one config run on what this machine has: GPUs or CPUs, one process or many, with mixed precision."""
from contextlib import contextmanager

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import nn

from ..errors import UserError
from ..registry import OPTIM_WRAPPERS


def fit_to_hardware(config: Config) -> None:
    """Change what a config says about devices where this machine has no GPU.

    ``SyncBatchNorm`` and NCCL refuse CPUs: batch norm stays plain, processes talk through gloo.
    """
    if torch.cuda.is_available():
        return
    config.sync_bn = None
    config.setdefault('env_cfg', {}).setdefault('dist_cfg', {})['backend'] = 'gloo'


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Forward passes under ``torch.autocast`` in bfloat16, on CPUs too, where MMEngine's ``AmpOptimWrapper`` refuses.

    bfloat16 has the exponent range of float32, so the loss needs no scaling.

    Args:
        **kwargs: of MMEngine's ``OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module):
        """Autocast inside MMEngine's context (gradient accumulation)."""
        with super().optim_context(model), torch.autocast(get_device(), torch.bfloat16):
            yield


def enable_amp(config: Config) -> None:
    """Train in mixed precision: bfloat16 where the device has it (every CPU, GPUs since Ampere), else float16.

    Raises:
        UserError: the config already has an optimizer wrapper of its own.
    """
    kind = config.optim_wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper', 'repvgg_seg.BFloat16OptimWrapper'):
        raise UserError(f'--amp needs optim_wrapper.type OptimWrapper, the config has {kind}')
    if get_device() == 'cpu' or (get_device() == 'cuda' and torch.cuda.is_bf16_supported()):
        config.optim_wrapper.type = 'repvgg_seg.BFloat16OptimWrapper'
    else:
        config.optim_wrapper.type = 'AmpOptimWrapper'
        config.optim_wrapper.loss_scale = 'dynamic'
