"""Variants of RepVGG's block with other branches."""
from collections.abc import Iterator
from typing import NoReturn

import torch
from torch import Tensor

from ...core.errors import ArgumentTypeError
from ...registry import MODELS
from ..branches import CONV_1X1, CONV_3X3, IDENTITY, Branch, BranchSum


@MODELS.register_module()
class PlainConv(BranchSum):
    """BN(conv3x3(x)): no other branch (Table 6: 72.39)."""
    branches = (CONV_3X3, )


@MODELS.register_module()
class IdentityOnly(BranchSum):
    """BN(conv3x3(x)) [+ BN(x)]: without the 1x1 branch (Table 6: 74.79)."""
    branches = (CONV_3X3, IDENTITY)


@MODELS.register_module()
class PointwiseOnly(BranchSum):
    """BN(conv3x3(x)) + BN(conv1x1(x)): without the identity branch (Table 6: 73.15)."""
    branches = (CONV_3X3, CONV_1X1)


@MODELS.register_module()
class IdentityWithoutNorm(BranchSum):
    """BN(conv3x3(x)) + BN(conv1x1(x)) [+ x] (Table 7, "identity w/o BN": 74.18)."""
    branches = (CONV_3X3, CONV_1X1, Branch(None, norm=False))


@MODELS.register_module()
class NormAfterSum(BranchSum):
    """BN(conv3x3(x) + conv1x1(x) [+ x]) (Table 7, "post-addition BN": 73.52)."""
    branches = (Branch((3, 3), norm=False), Branch((1, 1), norm=False), Branch(None, norm=False))
    norm_after_sum = True


@MODELS.register_module()
class QARepConv(BranchSum):
    """BN(BN(conv3x3(x)) + conv1x1(x) [+ x]): the block of QARepVGG (arXiv:2212.01593, AAAI 2024).

    It is designed for 8-bit quantization: plainly quantized, QARepVGG-A0 keeps 70.4 percent top-1 accuracy on ImageNet, where
    RepVGG-A0 drops from 72.4 to 52.2 (its Figure 1).
    """
    branches = (CONV_3X3, Branch((1, 1), norm=False), Branch(None, norm=False))
    norm_after_sum = True


@MODELS.register_module()
class AsymmetricConv(BranchSum):
    """BN(conv3x3(x)) + BN(conv1x3(x)) + BN(conv3x1(x)): the block of ACNet (arXiv:1908.03930; Table 7, "ACB": 73.58)."""
    branches = (CONV_3X3, Branch((1, 3)), Branch((3, 1)))


@MODELS.register_module()
class ReLUInBranches(BranchSum):
    """ReLU(BN(conv3x3(x))) + ReLU(BN(conv1x1(x))) [+ ReLU(BN(x))] (Table 7, "+ReLU in branches": 75.69).

    No convolution is equivalent to it: it can be trained, to show the benefit of more nonlinearity, but not fused.
    """
    branches = (CONV_3X3, CONV_1X1, IDENTITY)

    def outputs(self, x: Tensor) -> Iterator[Tensor]:
        """Output of each branch."""
        return map(torch.relu, super().outputs(x))

    def fuse(self) -> NoReturn:
        """Refuse, because no convolution is equivalent to this block.

        Raises:
            ArgumentTypeError: always.
        """
        self.fused_form()

    @classmethod
    def fused_form(cls, *geometry: int) -> NoReturn:
        """Refuse, because no convolution is equivalent to this block.

        Raises:
            ArgumentTypeError: always.
        """
        raise ArgumentTypeError(f'cannot fuse {cls.__name__}: with a ReLU in each branch no convolution equals it; use its '
                                'training form, or another block')
