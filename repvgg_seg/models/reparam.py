"""What stands before the ReLU of a block: anything that one convolution can replace after training."""
import inspect
from collections.abc import Mapping

from torch import Tensor, nn

from ..core.config_types import type_name
from ..core.environment import require_mm
from ..core.errors import ArgumentTypeError, UserError
from ..registry import MODELS


def build_norm(norm_cfg: dict, channels: int) -> nn.Module:
    """A norm layer from an MMCV config, e.g. ``dict(type='BN', requires_grad=True)``."""
    # MMCV registers the norm layers; it is loaded here so that importing the backbone stays cheap.
    require_mm('mmcv')
    from mmcv.cnn import build_norm_layer
    return build_norm_layer(norm_cfg, channels)[1]


def padded_conv(in_channels: int, out_channels: int, stride: int, dilation: int, groups: int, bias: bool,
                kernel_size: tuple[int, int] = (3, 3)) -> nn.Conv2d:
    """A convolution of one or three rows and columns; where there are three, padding equals dilation to keep the size."""
    rows, columns = (dilation if length == 3 else 0 for length in kernel_size)
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=(rows, columns),
                     dilation=(max(rows, 1), max(columns, 1)), groups=groups, bias=bias)


class ConvBranch(nn.Sequential):
    """A convolution, and a norm after it, or none."""
    conv: nn.Conv2d
    norm: nn.Module

    def __init__(self, conv: nn.Conv2d, norm: nn.Module | None) -> None:
        super().__init__()
        self.conv = conv
        if norm is not None:
            self.norm = norm


class LinearPart(nn.Module):
    """The part of a block that is trained in one form and deployed as one convolution.

    Its 3x3 convolution is called ``branch_3x3.conv``, by which checkpoints are recognized.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: 1 or 2.
        dilation: of the 3x3 convolution, in pixels of its input; its padding is the same.
        groups: of all convolutions.
        norm_cfg: MMCV config of the norm layers, which every kind builds by itself.
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
        """The convolution with bias that equals this module in eval mode.

        Returns:
            A new convolution of this module's dtype, device, training flag and ``requires_grad``.

        Raises:
            ArgumentTypeError (a TypeError): there is none, e.g. because a norm is not a batch norm with running statistics.
        """
        raise NotImplementedError

    @classmethod
    def fused_form(cls, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, groups: int = 1) -> nn.Conv2d:
        """The convolution that :meth:`fuse` returns, with other weights.

        Raises:
            ArgumentTypeError: there is none.
        """
        return padded_conv(in_channels, out_channels, stride, dilation, groups, bias=True)


def get_linear_part(config: Mapping) -> type[LinearPart]:
    """The class that a config such as ``dict(type='AsymmetricConv')`` names.

    Raises:
        ArgumentTypeError: the config is no dict with a type.
        UserError: an unknown type, or more than a type.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get('type'), (str, type)):
        raise ArgumentTypeError(f"block must be None or a dict with a type, e.g. dict(type='PlainConv'), got {config!r}")
    try:
        kind = MODELS.get(config['type']) if isinstance(config['type'], str) else config['type']
    except RuntimeError:  # What the registry raises where there is no such name.
        kind = None
    if not _is_linear_part(kind):
        known = sorted(name for name, kind in MODELS.module_dict.items() if _is_linear_part(kind))
        raise UserError(f'unknown block {type_name(config)!r}, expected one of {", ".join(known)}')
    if len(config) > 1:
        raise UserError(f'block {type_name(config)} takes no arguments, got {", ".join(sorted(set(config) - {"type"}))}')
    return kind


def fuse_linear_parts(model: nn.Module) -> None:
    """Replace every linear part in a model by its convolution, or, where one cannot be fused, none of them.

    Raises:
        ArgumentTypeError: one cannot be fused; nothing was changed.
    """
    convs = [(parent, name, part.fuse()) for parent in model.modules() for name, part in parent.named_children()
             if isinstance(part, LinearPart)]
    for parent, name, conv in convs:
        setattr(parent, name, conv)


def _is_linear_part(kind: object) -> bool:
    return inspect.isclass(kind) and issubclass(kind, LinearPart)
