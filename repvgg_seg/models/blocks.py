"""The building block of RepVGG. Its training form and its fused form differ in one submodule and share one forward pass."""
import torch
from torch import Tensor, nn

from ..registry import MODELS
from .archs import SE_RATIO
from .branches import CONV_1X1, CONV_3X3, IDENTITY, BranchSum
from .reparam import ConvBranch, LinearPart


@MODELS.register_module()
class RepConv(BranchSum):
    """BN(conv3x3(x)) + BN(conv1x1(x)) [+ BN(x)]: the linear part of a RepVGG block (paper, Figure 2b and section 3.2)."""
    branch_1x1: ConvBranch
    branches = (CONV_3X3, CONV_1X1, IDENTITY)


class SqueezeExcitation(nn.Module):
    """Channel attention x * sigmoid(expand(relu(reduce(mean(x))))) (arXiv:1709.01507), used by D2se before its ReLU.

    Args:
        channels: number of channels C of the (N, C, H, W) input and output.
        ratio: reduction ratio; there are C / ratio channels between the two 1x1 convolutions.
    """

    def __init__(self, channels: int, ratio: int = SE_RATIO) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // ratio, 1)
        self.expand = nn.Conv2d(channels // ratio, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return self.scale(x, x.mean((2, 3), keepdim=True))

    def scale(self, x: Tensor, mean: Tensor) -> Tensor:
        """Scale the channels of x (N, C, H, W) by the attention computed from their means (N, C, 1, 1)."""
        return x * torch.sigmoid(self.expand(torch.relu(self.reduce(mean))))


class RepVGGBlock(nn.Module):
    """y = ReLU(SE(conv(x))), where ``conv`` is a :class:`RepConv` or, once fused, the equivalent plain ``nn.Conv2d``.

    Args:
        in_channels, out_channels, stride, dilation, groups, norm_cfg: see :class:`LinearPart`.
        use_se: whether to apply squeeze-and-excitation before the ReLU.
        deploy: whether to build the fused form.
        linear_part: class of the module that is trained as ``conv``.

    Raises:
        ArgumentTypeError: the fused form is requested, but this linear part has none.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, groups: int = 1,
                 norm_cfg: dict = dict(type='BN'), use_se: bool = False, deploy: bool = False,
                 linear_part: type[LinearPart] = RepConv) -> None:
        super().__init__()
        geometry = (in_channels, out_channels, stride, dilation, groups)
        self.conv = linear_part.fused_form(*geometry) if deploy else linear_part(*geometry, norm_cfg)
        self.se = SqueezeExcitation(out_channels) if use_se else nn.Identity()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride))."""
        return self.act(self.se(self.conv(x)))
