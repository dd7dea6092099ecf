"""Split the identity branch off fused RepVGG blocks, so that any quantizer can round them to 8 bits with little error."""
import copy
from typing import TypeGuard

import torch
from torch import Tensor, nn

from ..core.errors import UserError
from ..models.blocks import RepVGGBlock
from ..models.reparam import LinearPart

# Names of the fused convolution in the blocks of MMPretrain; of timm and Apple's MobileOne; of the official RepVGG.
FUSED_NAMES = ('branch_reparam', 'reparam_conv', 'rbr_reparam')
# Names of the branches that these blocks have only before they are fused.
BRANCH_NAMES = ('branch_3x3', 'branch_conv_list', 'conv_kxk', 'rbr_dense', 'rbr_conv')


class SplitIdentity(nn.Module):
    """Fused convolution with the center weights d that connect each channel to itself split off: conv(x) + d * x.

    The identity branch of a RepVGG block adds about 1 to these weights, while the others are far smaller. If all were quantized
    together to 8 bits per channel, only a few steps would remain for the others. The split itself is exact before rounding.

    Args:
        conv: convolution of stride 1 that keeps the number of channels and the size; it is copied.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = copy.deepcopy(conv)
        outputs = torch.arange(conv.out_channels)
        rows, columns = (length // 2 for length in conv.kernel_size)
        diagonal = outputs, outputs % (conv.in_channels // conv.groups), rows, columns
        self.scale = nn.Parameter(conv.weight.detach()[diagonal].view(-1, 1, 1).clone(), requires_grad=False)
        with torch.no_grad():
            self.conv.weight[diagonal] = 0

    def forward(self, x: Tensor) -> Tensor:
        """Compute the convolution, (N, C, H, W) -> (N, C, H, W)."""
        return self.conv(x) + self.scale * x


def split_identities(model: nn.Module, required: bool = True) -> nn.Module:
    """Return a copy of a fused model with a :class:`SplitIdentity` in every RepVGG block that can have had an identity branch.

    The blocks of this package, MMPretrain (RepVGG, MobileOne), timm (``repvgg_*``, ``mobileone_*``), the official RepVGG and
    Apple's MobileOne are recognized. The copy computes the same function up to rounding in its dtype. Quantize it with any tool
    that quantizes convolutions: the products with the split weights are too few to matter, and stay in floating point.

    Args:
        model: fused model, in eval mode; it is not modified.
        required: whether a model without such a block is refused instead of copied.

    Raises:
        UserError: a block is not fused, or there is no block whose identity could be split off.
    """
    model = copy.deepcopy(model)
    found: list[tuple[nn.Module, str, nn.Conv2d]] = []
    for name, block in model.named_modules():
        if isinstance(block, LinearPart) or any(getattr(block, branch, None) is not None for branch in BRANCH_NAMES):
            raise UserError(f'{name or type(model).__name__} is not fused; fuse the model first, with repvgg_seg.deploy.fuse, '
                            "switch_to_deploy() or timm's reparameterize_model, and give split_identities the result")
        names = ('conv', ) if isinstance(block, RepVGGBlock) else FUSED_NAMES
        found += [(block, each, conv) for each in names if _keeps_its_input(conv := getattr(block, each, None))]
    if required and not found:
        raise UserError(f'{type(model).__name__} has no fused RepVGG block whose identity could be split off; expected one of '
                        "repvgg_seg, MMPretrain, timm, the official RepVGG or Apple's MobileOne")
    for block, each, conv in found:
        setattr(block, each, SplitIdentity(conv))
    return model


def _keeps_its_input(conv: object) -> TypeGuard[nn.Conv2d]:
    """Whether a module is a convolution whose output has the channels and the size of its input."""
    if not isinstance(conv, nn.Conv2d) or conv.in_channels != conv.out_channels or conv.stride != (1, 1):
        return False
    same = tuple(dilation * (length - 1) // 2 for length, dilation in zip(conv.kernel_size, conv.dilation))
    return conv.padding == same and all(length % 2 for length in conv.kernel_size)
