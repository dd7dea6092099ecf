"""The paper's block with a compactor, for pruning by ResRep."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...registry import MODELS
from ..blocks import RepConv


@MODELS.register_module()
class CompactedConv(RepConv):
    """Q (BN(conv3x3(x)) + BN(conv1x1(x)) [+ BN(x)]): the paper's block, and a compactor Q as in ResRep (arXiv:2007.03260).

    The compactor is a 1x1 convolution that begins as the identity. Where :class:`~repvgg_seg.deploy.resrep.ResRepHook` makes a
    row of it vanish, an output channel can be removed.

    Args:
        in_channels, out_channels, stride, dilation, groups, norm_cfg: see :class:`~repvgg_seg.models.reparam.LinearPart`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, groups: int = 1,
                 norm_cfg: dict = dict(type='BN')) -> None:
        super().__init__(in_channels, out_channels, stride, dilation, groups, norm_cfg)
        # No Conv2d, which MMEngine would initialize as other convolutions.
        self.compactor = nn.Parameter(self.identity())

    def identity(self) -> Tensor:
        """The compactor that changes nothing, (C_out, C_out / groups, 1, 1)."""
        return nn.init.dirac_(torch.empty(self.out_channels, self.out_channels // self.groups, 1, 1), self.groups)

    def neutral_weights(self) -> dict[str, Tensor]:
        """See :meth:`LinearPart.neutral_weights`: the weights of the paper's block can be loaded."""
        return dict(compactor=self.identity())

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride))."""
        return F.conv2d(super().forward(x), self.compactor, groups=self.groups)

    def kernel_and_bias(self) -> tuple[Tensor, Tensor]:
        """See :meth:`BranchSum.kernel_and_bias`; the compactor multiplies both."""
        kernel, bias = super().kernel_and_bias()
        rows = self.compactor.double().view(self.groups, -1, self.out_channels // self.groups)
        merged = rows @ kernel.view(self.groups, rows.shape[2], -1), rows @ bias.view(self.groups, -1, 1)
        return merged[0].view_as(kernel), merged[1].view_as(bias)
