"""The building block of RepVGG. Its training form and its fused form differ in one sub-module and share one forward."""
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..environment import require_mm
from .archs import SE_RATIO
from .fusion import conv_with, fold_norm, identity_kernel, pad_1x1_to_3x3


def build_norm(norm_cfg: dict, channels: int) -> nn.Module:
    """A norm layer from an MMCV config, e.g. ``dict(type='BN', requires_grad=True)``."""
    # MMCV registers the norm layers; it is loaded here so that importing the backbone stays cheap.
    require_mm('mmcv')
    from mmcv.cnn import build_norm_layer
    return build_norm_layer(norm_cfg, channels)[1]


def conv3x3(in_channels: int, out_channels: int, stride: int, dilation: int, groups: int, bias: bool) -> nn.Conv2d:
    """The one 3x3 convolution of both forms of a block. Padding equals dilation, so stride 1 keeps the size."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, dilation, dilation, groups, bias)


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Keep batch norms from updating their running statistics, as they must not when a forward pass is recomputed."""
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm) and norm.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(batches)


def norm_of_recomputed(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """``norm(conv(x))`` that keeps no ``conv(x)`` for the backward pass, which computes it again, to the same bits.

    Unlike a checkpoint of both it runs the norm once, so statistics are updated once.
    """
    y = conv(x)
    address, dtype, x = y.data_ptr(), y.dtype, x.detach()

    def pack(saved: Tensor) -> Tensor | None:
        return None if saved.data_ptr() == address else saved

    def unpack(saved: Tensor | None) -> Tensor:
        if saved is not None:
            return saved
        with torch.no_grad():  # The dtype is autocast's, which does not reach into the backward pass.
            return torch.conv2d(x.to(dtype), conv.weight.to(dtype), None, conv.stride, conv.padding, conv.dilation, conv.groups)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        return norm(y)


class RepConv(nn.Module):
    """BN(conv3x3(x)) + BN(conv1x1(x)) [+ BN(x)]: the linear part of a RepVGG block (paper, Figure 2b and section 3.2).

    The identity branch exists where stride is 1 and ``in_channels == out_channels``. The 1x1 and identity branches know
    nothing of dilation: they only see the centre of the 3x3 kernel.

    With ``recompute_1x1`` set, the 1x1 convolution is computed again in the backward pass instead of storing its output: a
    third less memory for activations, a ninth more multiplications of the forward pass.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: 1 or 2.
        dilation: of the 3x3 convolution, in pixels of its input; its padding is the same.
        groups: of the 3x3 and the 1x1 convolution.
        norm_cfg: MMCV config of the norm layers.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, groups: int = 1,
                 norm_cfg: dict = dict(type='BN')) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride, self.dilation, self.groups = stride, dilation, groups
        self.branch_3x3 = nn.Sequential(OrderedDict(
            conv=conv3x3(in_channels, out_channels, stride, dilation, groups, bias=False),
            norm=build_norm(norm_cfg, out_channels)))
        self.branch_1x1 = nn.Sequential(OrderedDict(
            conv=nn.Conv2d(in_channels, out_channels, 1, stride, 0, 1, groups, bias=False),
            norm=build_norm(norm_cfg, out_channels)))
        has_identity = stride == 1 and in_channels == out_channels
        self.branch_identity = build_norm(norm_cfg, out_channels) if has_identity else None
        self.recompute_1x1 = False

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride))."""
        recompute = self.recompute_1x1 and self.training
        y = self.branch_3x3(x) + (norm_of_recomputed(*self.branch_1x1, x) if recompute else self.branch_1x1(x))
        return y if self.branch_identity is None else y + self.branch_identity(x)

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """The one 3x3 convolution with bias that equals this module in eval mode (paper, section 3.3, Figure 4).

        Returns:
            A new convolution of this module's dtype, device, training flag and ``requires_grad``.

        Raises:
            TypeError: a norm is not a batch norm with running statistics.
        """
        conv, norm = self.branch_3x3
        conv1x1, norm1x1 = self.branch_1x1
        kernel, bias = fold_norm(conv.weight, None, norm)
        centre, bias1x1 = fold_norm(conv1x1.weight, None, norm1x1)
        bias = bias + bias1x1
        if self.branch_identity is not None:
            identity = identity_kernel(self.out_channels, self.groups, conv.weight.device)
            kernel_identity, bias_identity = fold_norm(identity, None, self.branch_identity)
            centre, bias = centre + kernel_identity, bias + bias_identity
        return conv_with(conv, kernel + pad_1x1_to_3x3(centre), bias)


class SqueezeExcitation(nn.Module):
    """Channel attention x * sigmoid(expand(relu(reduce(mean(x))))) (arXiv:1709.01507), used by D2se before its ReLU.

    Args:
        channels: C of the (N, C, H, W) input and output.
        ratio: C / ratio channels between the two 1x1 convolutions.
    """

    def __init__(self, channels: int, ratio: int = SE_RATIO) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // ratio, 1)
        self.expand = nn.Conv2d(channels // ratio, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return self.scale(x, x.mean((2, 3), keepdim=True))

    def scale(self, x: Tensor, mean: Tensor) -> Tensor:
        """Weigh the channels of (N, C, H, W) by the attention that their means (N, C, 1, 1) get."""
        return x * torch.sigmoid(self.expand(torch.relu(self.reduce(mean))))


class RepVGGBlock(nn.Module):
    """y = ReLU(SE(conv(x))), where ``conv`` is a :class:`RepConv` or, fused, the plain ``nn.Conv2d`` it stands for.

    Args:
        in_channels, out_channels, stride, dilation, groups, norm_cfg: see :class:`RepConv`.
        use_se: squeeze-and-excitation before the ReLU.
        deploy: build the fused form.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, groups: int = 1,
                 norm_cfg: dict = dict(type='BN'), use_se: bool = False, deploy: bool = False) -> None:
        super().__init__()
        if deploy:
            self.conv = conv3x3(in_channels, out_channels, stride, dilation, groups, bias=True)
        else:
            self.conv = RepConv(in_channels, out_channels, stride, dilation, groups, norm_cfg)
        self.se = SqueezeExcitation(out_channels) if use_se else nn.Identity()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride))."""
        return self.act(self.se(self.conv(x)))
