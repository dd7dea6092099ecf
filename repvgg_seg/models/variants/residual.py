"""RepVGG's layers as a ResNet: the paper's "Residual Reorg" (Table 7)."""
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...core.errors import UserError
from ...registry import MODELS
from ..blocks import RepVGGBlock
from ..fusion import conv_with, fold_norm
from ..reparam import LinearPart, build_norm, padded_conv
from ..repvgg import RepVGG


class Projection(LinearPart):
    """BN(conv1x1(x)): the shortcut of a residual block that changes size or channels, as in ResNet-18 and ResNet-34.

    Args:
        in_channels, out_channels, stride, dilation, groups, norm_cfg: see :class:`LinearPart`; the dilation has no effect.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, groups: int = 1,
                 norm_cfg: dict = dict(type='BN')) -> None:
        super().__init__(in_channels, out_channels, stride, dilation, groups)
        self.conv = padded_conv(in_channels, out_channels, stride, dilation, groups, False, kernel_size=(1, 1))
        self.norm = build_norm(norm_cfg, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride))."""
        return self.norm(self.conv(x))

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """See :meth:`LinearPart.fuse`; the result is a 1x1 convolution."""
        return conv_with(self.conv, *fold_norm(self.conv.weight, None, self.norm))

    @classmethod
    def fused_form(cls, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, groups: int = 1) -> nn.Conv2d:
        """See :meth:`LinearPart.fused_form`; the result is a 1x1 convolution."""
        return padded_conv(in_channels, out_channels, stride, dilation, groups, True, kernel_size=(1, 1))


class ResidualBlock(nn.Module):
    """y = ReLU(SE(second.conv(first(x))) + shortcut(x)). The shortcut remains when both layers are fused.

    Args:
        first: layer that may change the size or channels.
        second: layer that keeps the size and channels.
        shortcut: module that maps x to the size of y.
    """

    def __init__(self, first: RepVGGBlock, second: RepVGGBlock, shortcut: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.shortcut = first, second, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride))."""
        second = self.second
        return second.act(second.se(second.conv(self.first(x))) + self.shortcut(x))


@MODELS.register_module()
class ResidualRepVGG(RepVGG):
    """RepVGG's layers in pairs, each with a shortcut: a ResNet (Table 7, "Residual Reorg": 74.56 with plain layers).

    y = ReLU(BN(conv3x3(ReLU(BN(conv3x3(x))))) + x), with BN(conv1x1(x)) instead of x if the shape changes. The first and last
    stages of B0 keep their single layer; the others become 2, 3 and 8 residual blocks. Unlike RepVGG's branches, the shortcuts
    remain at inference.

    Args:
        *args, **kwargs: see :class:`~repvgg_seg.models.RepVGG`.
        block: config of the part of each layer before its ReLU; defaults to ``dict(type='PlainConv')``, without branches as in
            the paper.


    Raises:
        UserError: a stage has more than one layer, but an odd number of them.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{'block': dict(type='PlainConv'), **kwargs})

    def _make_stage(self, blocks: Sequence[RepVGGBlock], norm_cfg: dict) -> nn.Sequential:
        if len(blocks) == 1:
            return super()._make_stage(blocks, norm_cfg)
        if len(blocks) % 2:
            raise UserError(f'ResidualRepVGG needs one layer or an even number of them in each stage, got {len(blocks)}')
        pairs = []
        for first, second in zip(blocks[::2], blocks[1::2]):
            conv = first.conv
            stride = conv.stride[0] if isinstance(conv, nn.Conv2d) else conv.stride
            if stride == 1 and conv.in_channels == conv.out_channels:
                shortcut: nn.Module = nn.Identity()
            elif self.deploy:
                shortcut = Projection.fused_form(conv.in_channels, conv.out_channels, stride)
            else:
                shortcut = Projection(conv.in_channels, conv.out_channels, stride, norm_cfg=norm_cfg)
            pairs.append(ResidualBlock(first, second, shortcut))
        return nn.Sequential(*pairs)
