"""Adapt a config to the hardware of this machine: GPUs or CPUs, one process or several, mixed precision."""
import os
from collections.abc import Iterator
from contextlib import contextmanager

import mmengine.device
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import barrier, init_dist
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch import distributed as dist

from ..core.config_types import type_name
from ..core.errors import UserError
from ..registry import OPTIM_WRAPPERS
from ..runtime.backend import AUTO, CPU


@contextmanager
def torch_device(device: str | None, launcher: str = 'none') -> Iterator[None]:
    """Let MMEngine use a device for checkpoints within the block.

    Args:
        device: 'cpu' or 'cuda'; None or 'auto' for a GPU if there is one.
        launcher: how the processes were started.

    Raises:
        UserError: PyTorch does not have the device, or several processes were started.
    """
    if device is not None and launcher != 'none':
        raise UserError('--device is for one process; leave it or --launcher out')
    if device in (None, AUTO):
        yield
        return
    found = get_device()
    if device not in (CPU, found):
        here = dict.fromkeys((found, CPU))
        raise UserError(f'device {device}: a checkpoint runs in PyTorch, which has {" and ".join(here)} here; leave --device '
                        'out, or export the model for another runtime')
    mmengine.device.utils.DEVICE = device
    try:
        yield
    finally:
        mmengine.device.utils.DEVICE = found


def use_channels_last(model: nn.Module, device: str) -> None:
    """Convert the parameters of a model that is to be trained to the channels-last memory format.

    Raises:
        UserError: the device is the CPU, and the model has a strided 1x1 convolution of fewer than 16 channels, as RepVGG's
            first block does. PyTorch's backward pass of it (2.6 and 2.14.1 were tried) overwrites memory.
    """
    if device == CPU and any(isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.stride != (1, 1)
                             and module.in_channels < 16 for module in model.modules()):
        raise UserError('channels-last training is for GPUs: on CPUs, PyTorch overwrites memory in the backward pass of '
                        'strided 1x1 convolutions of few channels; leave channels_last out')
    model.to(memory_format=torch.channels_last)


def fit_to_hardware(config: Config) -> None:
    """Connect the processes, and on a machine without a GPU, change the device settings of a config.

    ``SyncBatchNorm`` and NCCL do not support CPUs, so batch norm stays plain, and processes communicate through gloo.

    Raises:
        UserError: the launcher does not match how the processes were started, or is not ``torchrun`` on CPUs.
    """
    launcher = config.get('launcher', 'none')
    if launcher == 'none' and 'TORCHELASTIC_RUN_ID' in os.environ and int(os.environ['WORLD_SIZE']) > 1:
        raise UserError(f'torchrun started {os.environ["WORLD_SIZE"]} processes, each of which would do all the work; add '
                        '--launcher pytorch')
    for name, variable, command in (('pytorch', 'RANK', 'torchrun'), ('slurm', 'SLURM_PROCID', 'srun')):
        if launcher == name and variable not in os.environ:
            raise UserError(f'--launcher {name} is for processes that {command} started; start it with {command}, or leave '
                            '--launcher out for one process')
    for loader in (config.get(f'{name}_dataloader') for name in ('train', 'val', 'test')):
        if loader and loader.get('num_workers') == 0:
            loader.persistent_workers = False  # Required by PyTorch.
    has_gpu = torch.cuda.is_available()
    if not has_gpu:
        config.sync_bn = None
    if launcher == 'none':
        return
    if not has_gpu and launcher == 'pytorch':  # When MMEngine wraps the model, it would request a CUDA device.
        config.setdefault('model_wrapper_cfg', dict(type='MMDistributedDataParallel', broadcast_buffers=False))
        config.model_wrapper_cfg.device_ids = None
    if dist.is_initialized():
        return
    if has_gpu:
        init_dist(launcher, **config.env_cfg.get('dist_cfg', {}))
    elif launcher == 'pytorch':
        dist.init_process_group('gloo')  # MMEngine would request a CUDA device.
    else:
        raise UserError('no GPU here: on CPUs start the processes with torchrun and --launcher pytorch, not '
                        f'{launcher}')
    # MMEngine formats configs with yapf, which writes a file to the user's cache when it is first imported. If several
    # processes did this at the same time, one could read an incomplete file.
    if os.environ.get('LOCAL_RANK', '0') == '0':
        import yapf  # noqa: F401
    barrier()


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Forward passes under ``torch.autocast`` in bfloat16, including on CPUs, which ``AmpOptimWrapper`` does not support.

    bfloat16 has the exponent range of float32, so the loss needs no scaling.

    Args:
        **kwargs: arguments of MMEngine's ``OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter autocast inside MMEngine's context for gradient accumulation."""
        with super().optim_context(model), torch.autocast(get_device(), torch.bfloat16):
            yield


def keep_logits_in_float32(model: nn.Module) -> None:
    """Make the segmentation heads of a model return logits in float32 under autocast.

    The loss resizes the logits to the size of the labels. On GPUs, the gradient of the resizing adds hundreds of values up in
    the dtype of the logits; in bfloat16, with its 8 significant bits, most of them would be lost.
    """
    for module in model.modules():
        classifier = getattr(module, 'conv_seg', None)
        if isinstance(classifier, nn.Module):  # The loss calls the head's forward() directly, so only its parts have hooks.
            classifier.register_forward_hook(_as_float32)


def _as_float32(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    return output.float() if output.dtype in (torch.bfloat16, torch.float16) else output


def cpu_has_bfloat16() -> bool:
    """Whether the CPU has instructions with which PyTorch computes in bfloat16; without them, it is slower than float32."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def fit_amp(config: Config) -> list[str]:
    """On a CPU, replace MMEngine's ``AmpOptimWrapper``, which does not support CPUs, by ours.

    Returns:
        A description of the change, and advice if mixed precision is slow on this CPU.
    """
    notes = []
    if get_device() == 'cpu' and type_name(config.optim_wrapper) == 'AmpOptimWrapper':
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            config.optim_wrapper.pop(key, None)
        config.optim_wrapper.type = 'repvgg_seg.BFloat16OptimWrapper'
        notes.append('optim_wrapper.type is BFloat16OptimWrapper instead of AmpOptimWrapper, which needs a GPU')
    if get_device() == 'cpu' and type_name(config.optim_wrapper) == 'BFloat16OptimWrapper' and not cpu_has_bfloat16():
        notes.append('this CPU has no bfloat16 instructions, so training takes longer than in float32; leave out --amp')
    return notes


def enable_amp(config: Config) -> None:
    """Enable mixed precision: bfloat16 if the device supports it (every CPU, GPUs since Ampere), otherwise float16.

    Raises:
        UserError: the config already has a different optimizer wrapper.
    """
    kind = type_name(config.optim_wrapper) or 'OptimWrapper'
    if kind not in ('OptimWrapper', 'AmpOptimWrapper', 'BFloat16OptimWrapper'):
        raise UserError(f'--amp needs optim_wrapper.type OptimWrapper, the config has {kind}')
    if get_device() == 'cpu' or (get_device() == 'cuda' and torch.cuda.is_bf16_supported()):
        config.optim_wrapper.type = 'repvgg_seg.BFloat16OptimWrapper'
    else:
        config.optim_wrapper.type = 'AmpOptimWrapper'
        config.optim_wrapper.loss_scale = 'dynamic'
