"""Variants of RepVGG's block with a single branch, whose kernel is computed from other parameters."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...registry import MODELS
from ..fusion import conv_with, fold_norm
from ..reparam import ConvBranch, LinearPart, build_norm, padded_conv


class KernelConv(LinearPart):
    """BN(x * K), where * is convolution and the kernel K is computed from the parameter W and the Dirac kernel I.

    x * I is x adapted to the shape of the convolution's output: with stride 2 it has every second value; with fewer output than
    input channels it has the first channels; with more, the additional channels are zero. This applies to each group.

    Args:
        in_channels, out_channels, stride, dilation, groups, norm_cfg: see :class:`LinearPart`.
    """
    identity: Tensor

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, groups: int = 1,
                 norm_cfg: dict = dict(type='BN')) -> None:
        super().__init__(in_channels, out_channels, stride, dilation, groups)
        conv = padded_conv(in_channels, out_channels, stride, dilation, groups, bias=False)
        self.branch_3x3 = ConvBranch(conv, build_norm(norm_cfg, out_channels))
        self.register_buffer('identity', nn.init.dirac_(torch.empty_like(conv.weight), groups), persistent=False)

    def kernel(self, weight: Tensor) -> Tensor:
        """Compute K, in the shape and dtype of W: (C_out, C_in / groups, 3, 3)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride))."""
        conv, norm = self.branch_3x3.conv, self.branch_3x3.norm
        return norm(F.conv2d(x, self.kernel(conv.weight), None, conv.stride, conv.padding, conv.dilation, conv.groups))

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """See :meth:`LinearPart.fuse`."""
        conv, norm = self.branch_3x3.conv, self.branch_3x3.norm
        return conv_with(conv, *fold_norm(self.kernel(conv.weight.double()), None, norm))


@MODELS.register_module()
class TrivialConv(KernelConv):
    """K = I + W (Table 7, "trivial re-param": 73.51)."""

    def kernel(self, weight: Tensor) -> Tensor:
        """See :meth:`KernelConv.kernel`."""
        return self.identity + weight


@MODELS.register_module()
class DiracConv(KernelConv):
    """K = diag(a) I + diag(b) W / |W|: the layer of DiracNets (arXiv:1706.00388; Table 7, "DiracNet": 73.97).

    Every filter of W is divided by its own norm. a (``identity_scale``) and b (``weight_scale``) scale the output channels.
    Their initial values are 1 and 0.1. They should not have weight decay, because the layer degenerates as they approach 0.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, groups: int = 1,
                 norm_cfg: dict = dict(type='BN')) -> None:
        super().__init__(in_channels, out_channels, stride, dilation, groups, norm_cfg)
        self.identity_scale = nn.Parameter(torch.full((out_channels, 1, 1, 1), 1.0))
        self.weight_scale = nn.Parameter(torch.full((out_channels, 1, 1, 1), 0.1))

    def kernel(self, weight: Tensor) -> Tensor:
        """See :meth:`KernelConv.kernel`."""
        identity_scale, weight_scale = self.identity_scale.to(weight.dtype), self.weight_scale.to(weight.dtype)
        normalized = F.normalize(weight.flatten(1)).view_as(weight)
        return identity_scale * self.identity + weight_scale * normalized
