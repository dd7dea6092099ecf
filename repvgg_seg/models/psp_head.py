"""PSPNet's head (arXiv:1612.01105) without the upsampled concatenation."""
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.environment import require_mm
from ..core.errors import UserError
from ..registry import MODELS
from .pooling import bilinear_weights, pool

require_mm('mmengine', 'mmcv', 'mmseg')

from mmcv.cnn import ConvModule  # noqa: E402
from mmseg.models.decode_heads.decode_head import BaseDecodeHead  # noqa: E402
from mmseg.models.decode_heads.psp_head import PPM  # noqa: E402


@MODELS.register_module()
class FactorizedPSPHead(BaseDecodeHead):
    """MMSegmentation's ``PSPHead`` with the same parameters, keys and outputs, but less computation.

    The 3x3 bottleneck over the concatenation [x, up(p_1), up(p_2), up(p_3), up(p_6)] is linear, so the contribution of each
    pooled map p_s can be computed on its s x s cells: multiply the cells by the nine taps of their slice of the kernel, and
    spread the products over the map with the bilinear weights shifted by the tap. Bilinear weights are separable, so the
    products are spread along x and then along y. The (N, C_in + S * C_pool, H, W) concatenation is never built.

    Args:
        pool_scales: sizes s of the pooled maps.
        pool_channels: number of channels of each pyramid branch; defaults to ``channels``. The paper's PSPNet has
            ``in_channels / 4``.
        **kwargs: arguments of MMSegmentation's ``BaseDecodeHead``. ``conv_cfg`` must be None, because the factorization holds
            only for plain convolutions.

    Raises:
        UserError: ``conv_cfg`` is given, or the pool scales or channels are not positive integers.
    """

    def __init__(self, pool_scales: Sequence[int] = (1, 2, 3, 6), pool_channels: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.conv_cfg is not None:
            raise UserError(f'FactorizedPSPHead has plain convolutions only: expected conv_cfg=None, got {self.conv_cfg}')
        if not isinstance(pool_scales, (tuple, list)) or not pool_scales or not all(map(_is_positive, pool_scales)):
            raise UserError(f'pool_scales must be positive integers, got {pool_scales!r}')
        if pool_channels is not None and not _is_positive(pool_channels):
            raise UserError(f'pool_channels must be a positive integer or None, got {pool_channels!r}')
        self.pool_scales = tuple(pool_scales)
        self.pool_channels = self.channels if pool_channels is None else pool_channels
        layers = dict(norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)
        self.psp_modules = PPM(self.pool_scales, self.in_channels, self.pool_channels, conv_cfg=None,
                               align_corners=self.align_corners, **layers)
        self.bottleneck = ConvModule(self.in_channels + len(self.pool_scales) * self.pool_channels, self.channels, 3,
                                     padding=1, **layers)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Map the backbone's features, of which ``in_index`` is (N, C_in, H, W), to logits (N, num_classes, H, W)."""
        return self.cls_seg(self._forward_feature(inputs))

    def _forward_feature(self, inputs: Sequence[Tensor]) -> Tensor:
        """Map the backbone's features to the features (N, channels, H, W) before the classifier."""
        x = self._transform_inputs(inputs)
        conv = self.bottleneck.conv
        # Split only once: the gradient of each slice would be a whole kernel of zeros.
        kernel, *taps = conv.weight.split([self.in_channels, *[self.pool_channels] * len(self.pool_scales)], dim=1)
        features = F.conv2d(x, kernel, conv.bias, padding=1)
        features = features + self._pyramid(x, taps)
        if self.bottleneck.with_norm:
            features = self.bottleneck.norm(features)
        return self.bottleneck.activate(features) if self.bottleneck.with_activation else features

    def _pyramid(self, x: Tensor, taps: Sequence[Tensor]) -> Tensor:
        """Compute the bottleneck's response to the pooled maps.

        Args:
            x: (N, C_in, H, W).
            taps: for each scale, its slice (channels, C_pool, 3, 3) of the bottleneck's kernel.

        Returns:
            (N, channels, H, W).
        """
        height, width = x.shape[2:]
        spread, row_weights = [], []
        for scale, branch, slice_ in zip(self.pool_scales, self.psp_modules, taps):
            cells = branch[1](pool(x, scale))
            products = _tap_products(cells, slice_)
            spread.append(products @ self._spread(scale, width, x).to(products.dtype))
            row_weights.append(self._spread(scale, height, x))
        rows = torch.cat(spread, dim=2)
        return torch.cat(row_weights).t().to(rows.dtype) @ rows

    def _spread(self, scale: int, size: int, like: Tensor) -> Tensor:
        """Bilinear weights of ``scale`` cells over ``size`` pixels, shifted by each of three taps: (3 * scale, size)."""
        weights = bilinear_weights(scale, size, self.align_corners, like)
        padded = F.pad(weights, (1, 1))
        return torch.cat([padded[:, tap:tap + size] for tap in range(3)])


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and value > 0


def _tap_products(cells: Tensor, taps: Tensor) -> Tensor:
    """Multiply every cell by every tap of a 3x3 kernel.

    Args:
        cells: pooled map (N, P, s, s).
        taps: slice (O, P, 3, 3) of the kernel.

    Returns:
        (N, O, 3 * s, 3 * s): row ``tap_y * s + cell_y``, column ``tap_x * s + cell_x``.
    """
    batch, _, scale, _ = cells.shape
    products = cells.flatten(2).transpose(1, 2) @ taps.transpose(0, 1).flatten(1)
    # At most four axes (times the batch), the limit of some runtimes: channel and tap_y; tap_x; y; x.
    products = products.transpose(1, 2).reshape(-1, 3, scale, scale).transpose(1, 2)
    return products.reshape(batch, -1, 3 * scale, 3 * scale)
