"""Fuse every convolution + batch norm of a model into single convolutions."""
import copy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..models.fusion import fold_norm


def fuse(model: nn.Module, inplace: bool = False) -> nn.Module:
    """Fuse RepVGG blocks, and convolution + batch norm in MMCV's ``ConvModule`` and in ``nn.Sequential``.

    The result equals the model in eval mode, up to the rounding of its dtype; the algebra is done in float64. It has the
    keys that the same model has when it is built with ``deploy=True`` in the backbone and ``norm_cfg=None`` in the heads.
    Fusing twice does nothing more.

    Args:
        model: any model; dtype, device, mode and ``requires_grad`` are kept.
        inplace: change ``model`` itself instead of a copy.

    Returns:
        The fused model.

    Raises:
        ArgumentTypeError: a norm in a RepVGG block, or a batch norm without running statistics, cannot be fused.
    """
    model = model if inplace else copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if hasattr(child, 'fuse'):
                setattr(module, name, child.fuse())
        if hasattr(module, 'switch_to_deploy'):
            module.switch_to_deploy()
        if _is_conv_module(module):
            module.conv = _fuse_conv_norm(module.conv, module.norm)
            delattr(module, module.norm_name)
            module.norm_name, module.with_norm = None, False
        elif isinstance(module, nn.Sequential):
            _fuse_sequential(module)
    return model


def _is_conv_module(module: nn.Module) -> bool:
    """Whether a module is an MMCV ``ConvModule`` that runs its convolution, then its batch norm."""
    return (getattr(module, 'order', None) == ('conv', 'norm', 'act') and isinstance(module.conv, nn.Conv2d)
            and isinstance(module.norm, _BatchNorm))


def _fuse_sequential(sequential: nn.Sequential) -> None:
    names = list(sequential._modules)
    for first, second in zip(names, names[1:]):
        conv, norm = sequential._modules[first], sequential._modules[second]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, _BatchNorm):
            sequential._modules[first] = _fuse_conv_norm(conv, norm)
            sequential._modules[second] = nn.Identity()


@torch.no_grad()
def _fuse_conv_norm(conv: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    kernel, bias = fold_norm(conv.weight, conv.bias, norm)
    fused = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation,
                      conv.groups, bias=True, padding_mode=conv.padding_mode, device=conv.weight.device,
                      dtype=conv.weight.dtype)
    fused.weight.copy_(kernel)
    fused.bias.copy_(bias)
    return fused.requires_grad_(conv.weight.requires_grad).train(conv.training)
