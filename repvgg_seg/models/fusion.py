"""The algebra of structural re-parameterization (RepVGG, arXiv:2101.03697, section 3.3 and Figure 4) on plain tensors.

All functions compute and return float64; the caller rounds once, at the end.
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..core.errors import ArgumentTypeError


def norm_scale_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Inference-time batch norm as ``y = scale * x + shift``.

    Args:
        norm: any batch norm with running statistics: ``BatchNorm2d``, ``SyncBatchNorm``, MMEngine's ``_BatchNormXd``.

    Returns:
        scale and shift, float64, each of shape (C,).

    Raises:
        ArgumentTypeError: the norm depends on its input at inference, so no convolution can replace it.
    """
    if not isinstance(norm, _BatchNorm):
        raise ArgumentTypeError(f'cannot fuse {type(norm).__name__}: only batch norm has fixed statistics at inference')
    if norm.running_mean is None or norm.running_var is None:
        raise ArgumentTypeError(f'cannot fuse {type(norm).__name__} with track_running_stats=False: it has no running '
                                'statistics')
    mean, var = norm.running_mean.double(), norm.running_var.double()
    weight = torch.ones_like(mean) if norm.weight is None else norm.weight.double()
    bias = torch.zeros_like(mean) if norm.bias is None else norm.bias.double()
    scale = weight / torch.sqrt(var + norm.eps)
    return scale, bias - mean * scale


def fold_norm(kernel: Tensor, bias: Tensor | None, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Fold the batch norm that follows a convolution into it (equation 3 of the paper).

    Args:
        kernel: (O, I / groups, kH, kW).
        bias: (O,) or None.
        norm: batch norm over the O output channels.

    Returns:
        kernel of the same shape and bias of shape (O,), float64.
    """
    scale, shift = norm_scale_shift(norm)
    if bias is not None:
        shift = shift + bias.double() * scale
    return kernel.double() * scale.view(-1, 1, 1, 1), shift


def fold_branch(branch: nn.Module, channels: int, groups: int = 1,
                device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Express one branch of a block as a 3x3 kernel and a bias.

    Args:
        branch: a convolution of 1 or 3 rows and columns, a batch norm, a ``Sequential`` of such a convolution and a batch norm,
            or ``nn.Identity``.
        channels: number of output channels O.
        groups: number of groups of the convolution, or of the kernel that represents an identity.
        device: device of the returned tensors.

    Returns:
        kernel (O, I / groups, 3, 3) and bias (O,), float64.
    """
    first, *norms = branch if isinstance(branch, nn.Sequential) else [branch]
    if isinstance(first, nn.Conv2d):
        kernel = first.weight.double()
    else:
        kernel, norms = identity_kernel(channels, groups, device), [first, *norms]
    bias = torch.zeros(channels, dtype=torch.float64, device=device)
    for norm in norms:
        if not isinstance(norm, nn.Identity):
            kernel, bias = fold_norm(kernel, bias, norm)
    return pad_to_3x3(kernel), bias


def pad_to_3x3(kernel: Tensor) -> Tensor:
    """Center a kernel (O, I, kH, kW) of 1 or 3 rows and columns in an (O, I, 3, 3) kernel of zeros."""
    rows, columns = ((3 - length) // 2 for length in kernel.shape[2:])
    return F.pad(kernel, (columns, columns, rows, rows))


def identity_kernel(channels: int, groups: int = 1, device: torch.device | None = None) -> Tensor:
    """The 1x1 kernel (C, C / groups, 1, 1), float64, whose convolution with the same number of groups returns its input."""
    width = channels // groups
    return torch.eye(width, dtype=torch.float64, device=device).repeat(groups, 1).view(channels, width, 1, 1)


@torch.no_grad()
def conv_with(conv: nn.Conv2d, kernel: Tensor, bias: Tensor) -> nn.Conv2d:
    """Build a convolution with bias that otherwise matches ``conv``: geometry, dtype, device, training flag, ``requires_grad``.

    Args:
        conv: convolution to match.
        kernel: new kernel, in the shape of ``conv.weight``.
        bias: new bias, (O,).
    """
    fused = nn.utils.skip_init(nn.Conv2d, conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,
                               conv.dilation, conv.groups, bias=True, padding_mode=conv.padding_mode,
                               device=conv.weight.device, dtype=conv.weight.dtype)
    fused.weight.copy_(kernel)
    fused.bias.copy_(bias)
    return fused.requires_grad_(conv.weight.requires_grad).train(conv.training)
