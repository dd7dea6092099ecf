"""A head for real-time segmentation on an undilated backbone."""
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.environment import require_mm
from ..core.errors import UserError
from ..registry import MODELS
from .blocks import RepVGGBlock
from .pooling import bilinear_weights, pool

require_mm('mmengine', 'mmcv', 'mmseg')

from mmcv.cnn import ConvModule  # noqa: E402
from mmseg.models.decode_heads.decode_head import BaseDecodeHead  # noqa: E402


@MODELS.register_module()
class RepFPNHead(BaseDecodeHead):
    """Feature pyramid of RepVGG blocks: context from the coarsest feature map, details from the finer ones.

    A 1x1 convolution reduces the coarsest map, whose pooled cells are added to it (see :class:`PooledContext`). At each level,
    a RepVGG block follows, and its output is upsampled and added to a 1x1 convolution of the next finer map. The finest level
    has further blocks before the classifier. Fused, the head consists of 3x3 convolutions with ReLU, 1x1 convolutions,
    additions, and resizing.

    Copying and resizing take more time on CPUs than their few operations suggest. Therefore branches are summed instead of
    concatenated, and each block reduces the number of channels before its output is upsampled.

    Related networks: PP-LiteSeg (arXiv:2204.02681) also sums its pyramid, and its decoder also narrows towards finer levels.
    STDC (arXiv:2104.13188), DDRNet (arXiv:2101.06085) and PIDNet (arXiv:2206.02066) also compute context at stride 32 or 64 and
    classify at stride 8. Their auxiliary losses, which exist only in training, are ``auxiliary_head`` entries of the config.

    Args:
        in_channels: numbers of channels of the backbone's feature maps, from the finest to the coarsest.
        in_index: indices of these feature maps in the backbone's output.
        feature_strides: output strides of these feature maps; each divides the next.
        context_channels: number of channels of the coarsest level.
        fusion_channels: numbers of channels of the sums at the finer levels, from the coarsest to the finest.
        block_channels: numbers of channels between the blocks of the finest level, the last of which gives ``channels``.
        pool_scales: sizes s of the pooled maps of s x s cells.
        **kwargs: arguments of MMSegmentation's ``BaseDecodeHead``. ``norm_cfg=None`` builds the fused form.

    Raises:
        UserError: the numbers of channels or the strides do not fit the feature maps, or are not positive integers.
    """

    def __init__(self, in_channels: Sequence[int], in_index: Sequence[int] = (0, 1, 2),
                 feature_strides: Sequence[int] = (8, 16, 32), context_channels: int = 128,
                 fusion_channels: Sequence[int] = (128, 64), block_channels: Sequence[int] = (64, ),
                 pool_scales: Sequence[int] = (1, 2, 3, 6), **kwargs: Any) -> None:
        for name, values in (('in_channels', in_channels), ('feature_strides', feature_strides),
                             ('context_channels', [context_channels]),
                             ('fusion_channels', fusion_channels), ('block_channels', block_channels),
                             ('pool_scales', pool_scales)):
            if not isinstance(values, (tuple, list)) or not all(isinstance(value, int) and value > 0 for value in values):
                raise UserError(f'{name} must be positive integers, got {values!r}')
        if not len(in_channels) == len(in_index) == len(fusion_channels) + 1:
            raise UserError(f'RepFPNHead needs in_channels for each of in_index, and fusion_channels for all but one; got '
                            f'{len(in_channels)}, {len(in_index)} and {len(fusion_channels)} of them')
        if len(feature_strides) != len(in_index) or any(coarse % fine for fine, coarse in pairwise(feature_strides)):
            raise UserError(f'feature_strides must be one for each of in_index ({len(in_index)}), each a divisor of the next; '
                            f'got {feature_strides!r}')
        super().__init__(list(in_channels), in_index=list(in_index), input_transform='multiple_select', **kwargs)
        linear: dict[str, Any] = dict(norm_cfg=self.norm_cfg, act_cfg=None)
        self.reduce = ConvModule(in_channels[-1], context_channels, 1, norm_cfg=self.norm_cfg)
        self.context = PooledContext(context_channels, pool_scales, self.align_corners)
        self.factors = [coarse // fine for fine, coarse in pairwise(feature_strides)][::-1]
        self.laterals, self.blocks = nn.ModuleList(), nn.ModuleList()
        width = context_channels
        for lateral_channels, sum_channels in zip(in_channels[-2::-1], fusion_channels):
            self.blocks.append(self._block(width, sum_channels))
            self.laterals.append(ConvModule(lateral_channels, sum_channels, 1, **linear))
            width = sum_channels
        self.refine = nn.Sequential()
        for out_channels in (*block_channels, self.channels):
            self.refine.append(self._block(width, out_channels))
            width = out_channels

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Map the backbone's feature maps to logits (N, num_classes, H, W), where (H, W) is the size of the finest one."""
        return self.cls_seg(self._forward_feature(inputs))

    def _forward_feature(self, inputs: Sequence[Tensor]) -> Tensor:
        """Map the backbone's feature maps to the features (N, channels, H, W) before the classifier."""
        *finer, coarsest = self._transform_inputs(inputs)
        x = self.context(self.reduce(coarsest))
        for block, lateral, features, factor in zip(self.blocks, self.laterals, reversed(finer), self.factors):
            x = lateral(features) + self._enlarge(block(x), factor, features.shape[2:])
        return self.refine(x)

    def _enlarge(self, x: Tensor, factor: int, size: torch.Size) -> Tensor:
        """Upsample a map by the ratio of the strides.

        With ``align_corners=False``, resizing to a size that is not a multiple would shift the map, at its end by up to half of
        one of its pixels, which is 16 pixels of the image at stride 32. Crops in training are multiples, so the network never
        sees that.
        """
        if not torch.compiler.is_compiling() and list(x.shape[2:]) != [-(-length // factor) for length in size]:
            sizes = ' and '.join(f'{height}x{width}' for height, width in (size, x.shape[2:]))
            raise UserError(f'RepFPNHead: feature maps of {sizes} do not have strides of the ratio {factor}; check in_index '
                            'and feature_strides')
        if factor == 1:
            return x
        if self.align_corners:
            return F.interpolate(x, size=size, mode='bilinear', align_corners=True)
        enlarged = F.interpolate(x, scale_factor=factor, mode='bilinear', align_corners=False)
        if isinstance(size[0], torch.SymInt):  # A slice would be exported with the condition that it removes something.
            for dim, length in enumerate(size, start=2):
                enlarged = enlarged.index_select(dim, torch.arange(length, device=x.device))
            return enlarged
        return enlarged[:, :, :size[0], :size[1]]

    def _block(self, in_channels: int, out_channels: int) -> RepVGGBlock:
        if self.norm_cfg is None:
            return RepVGGBlock(in_channels, out_channels, deploy=True)
        return RepVGGBlock(in_channels, out_channels, norm_cfg=self.norm_cfg)


class PooledContext(nn.Module):
    """x + sum over scales s of up(relu(conv1x1(pool(x, s)))): each pixel gets the averages of the regions around it.

    Resizing is separable and linear, so a single matrix product spreads all scales along y. The 1x1 convolutions have no
    norm: for a batch of one image, a pooled map of one cell has a single value per channel.

    Args:
        channels: number of channels.
        pool_scales: sizes s of the pooled maps of s x s cells.
        align_corners: how pooled maps are resized, see ``torch.nn.functional.interpolate``.
    """

    def __init__(self, channels: int, pool_scales: Sequence[int], align_corners: bool) -> None:
        super().__init__()
        self.pool_scales, self.align_corners = tuple(pool_scales), align_corners
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in pool_scales)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        height, width = x.shape[2:]
        output, rows, row_weights = x, [], []
        for scale, conv in zip(self.pool_scales, self.convs):
            cells = torch.relu(conv(pool(x, scale)))
            if scale == 1:  # Broadcast by the addition; ncnn would drop an axis of a product with one row.
                output = output + cells
            else:
                rows.append(cells @ bilinear_weights(scale, width, self.align_corners, x).to(cells.dtype))
                row_weights.append(bilinear_weights(scale, height, self.align_corners, x))
        if rows:
            spread = torch.cat(rows, dim=2)
            output = output + torch.cat(row_weights).t().to(spread.dtype) @ spread
        return output
