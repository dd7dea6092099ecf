"""The part of a block before its ReLU: any module that a single convolution can replace after training."""
import inspect
from collections.abc import Mapping

from torch import Tensor, nn

from ..core.config_types import type_name
from ..core.environment import require_mm
from ..core.errors import ArgumentTypeError, UserError
from ..registry import MODELS


def build_norm(norm_cfg: dict, channels: int) -> nn.Module:
    """Build a norm layer from an MMCV config, e.g. ``dict(type='BN', requires_grad=True)``."""
    # MMCV registers the norm layers; it is imported here so that importing the backbone stays fast.
    require_mm('mmcv')
    from mmcv.cnn import build_norm_layer
    return build_norm_layer(norm_cfg, channels)[1]


def padded_conv(in_channels: int, out_channels: int, stride: int, dilation: int, groups: int, bias: bool,
                kernel_size: tuple[int, int] = (3, 3)) -> nn.Conv2d:
    """Build a convolution of 1 or 3 rows and columns; an axis of 3 gets padding equal to the dilation, which keeps the size."""
    rows, columns = (dilation if length == 3 else 0 for length in kernel_size)
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=(rows, columns),
                     dilation=(max(rows, 1), max(columns, 1)), groups=groups, bias=bias)


class ConvBranch(nn.Sequential):
    """A convolution, optionally followed by a norm."""
    conv: nn.Conv2d
    norm: nn.Module

    def __init__(self, conv: nn.Conv2d, norm: nn.Module | None) -> None:
        super().__init__()
        self.conv = conv
        if norm is not None:
            self.norm = norm


class LinearPart(nn.Module):
    """The part of a block that is trained in one form and deployed as one convolution.

    Its 3x3 convolution must be named ``branch_3x3.conv``, because checkpoints are recognized by that name.

    Args:
        in_channels: number of input channels.
        out_channels: number of output channels.
        stride: stride, 1 or 2.
        dilation: dilation of the 3x3 convolution, in pixels of its input; the padding is the same.
        groups: number of groups of all convolutions.
        norm_cfg: MMCV config of the norm layers, which each subclass builds itself.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, groups: int = 1,
                 norm_cfg: dict = dict(type='BN')) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride, self.dilation, self.groups = stride, dilation, groups

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride))."""
        raise NotImplementedError

    def fuse(self) -> nn.Conv2d:
        """Build the convolution with bias that is equivalent to this module in eval mode.

        Returns:
            A new convolution with this module's dtype, device, training flag and ``requires_grad``.

        Raises:
            ArgumentTypeError (a TypeError): there is no such convolution, e.g. because a norm is not a batch norm with running
                statistics.
        """
        raise NotImplementedError

    def neutral_weights(self) -> dict[str, Tensor]:
        """Weights that a checkpoint may lack, with values that change nothing, by their names in this module."""
        return {}

    @classmethod
    def fused_form(cls, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, groups: int = 1) -> nn.Conv2d:
        """Build a convolution of the same form as :meth:`fuse` returns, with other weights.

        Raises:
            ArgumentTypeError: there is no such convolution.
        """
        return padded_conv(in_channels, out_channels, stride, dilation, groups, bias=True)


def get_linear_part(config: Mapping) -> type[LinearPart]:
    """Look up the class that a config such as ``dict(type='AsymmetricConv')`` names.

    Raises:
        ArgumentTypeError: the config is not a dict with a type.
        UserError: the type is unknown, or the config has more than a type.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get('type'), (str, type)):
        raise ArgumentTypeError(f"block must be None or a dict with a type, e.g. dict(type='PlainConv'), got {config!r}")
    try:
        kind = MODELS.get(config['type']) if isinstance(config['type'], str) else config['type']
    except RuntimeError:  # Raised by the registry for an unknown name.
        kind = None
    if not _is_linear_part(kind):
        known = sorted(name for name, kind in MODELS.module_dict.items() if _is_linear_part(kind))
        raise UserError(f'unknown block {type_name(config)!r}, expected one of {", ".join(known)}')
    if len(config) > 1:
        raise UserError(f'block {type_name(config)} takes no arguments, got {", ".join(sorted(set(config) - {"type"}))}')
    return kind


def fuse_linear_parts(model: nn.Module) -> None:
    """Replace every linear part of a model by its convolution, or none of them if one cannot be fused.

    Raises:
        ArgumentTypeError: a linear part cannot be fused; nothing was changed.
    """
    convs = [(parent, name, part.fuse()) for parent in model.modules() for name, part in parent.named_children()
             if isinstance(part, LinearPart)]
    for parent, name, conv in convs:
        setattr(parent, name, conv)


def _is_linear_part(kind: object) -> bool:
    return inspect.isclass(kind) and issubclass(kind, LinearPart)
