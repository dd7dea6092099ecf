"""The algebra of structural re-parameterization (RepVGG, arXiv:2101.03697, section 3.3 and Figure 4) on plain tensors.

Everything is computed and returned in float64; the caller rounds once, at the end.
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
        ArgumentTypeError: the norm depends on its input at inference, so that no convolution can replace it.
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
        norm: the batch norm over the O output channels.

    Returns:
        kernel of the same shape and bias of shape (O,), float64.
    """
    scale, shift = norm_scale_shift(norm)
    if bias is not None:
        shift = shift + bias.double() * scale
    return kernel.double() * scale.view(-1, 1, 1, 1), shift


def fold_branch(branch: nn.Module, channels: int, groups: int = 1,
                device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """One branch of a block as a 3x3 kernel and a bias.

    Args:
        branch: a convolution of 1 or 3 rows and columns, a batch norm, one after the other in a ``Sequential``, or
            ``nn.Identity``.
        channels: O, of its output.
        groups: of its convolution, and of the kernel that stands for an identity.
        device: of what is returned.

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
    """Put a kernel of 1 or 3 rows and columns, (O, I, kH, kW), in the center of a (O, I, 3, 3) kernel of zeros."""
    rows, columns = ((3 - length) // 2 for length in kernel.shape[2:])
    return F.pad(kernel, (columns, columns, rows, rows))


def identity_kernel(channels: int, groups: int = 1, device: torch.device | None = None) -> Tensor:
    """The 1x1 kernel (C, C / groups, 1, 1), float64, whose convolution with the same groups returns its input."""
    width = channels // groups
    return torch.eye(width, dtype=torch.float64, device=device).repeat(groups, 1).view(channels, width, 1, 1)


@torch.no_grad()
def conv_with(conv: nn.Conv2d, kernel: Tensor, bias: Tensor) -> nn.Conv2d:
    """A convolution with bias, otherwise as ``conv``: geometry, dtype, device, training flag and ``requires_grad``.

    Args:
        conv: what it is to resemble.
        kernel: of the shape of ``conv.weight``.
        bias: (O,).
    """
    fused = nn.utils.skip_init(nn.Conv2d, conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,
                               conv.dilation, conv.groups, bias=True, padding_mode=conv.padding_mode,
                               device=conv.weight.device, dtype=conv.weight.dtype)
    fused.weight.copy_(kernel)
    fused.bias.copy_(bias)
    return fused.requires_grad_(conv.weight.requires_grad).train(conv.training)
