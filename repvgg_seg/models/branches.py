"""Linear parts that are a sum of branches."""
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor, nn

from .fusion import conv_with, fold_branch, fold_norm
from .recomputing import recomputed
from .reparam import ConvBranch, LinearPart, build_norm, padded_conv


@dataclass(frozen=True)
class Branch:
    """A convolution without bias, or the identity, optionally followed by a norm.

    Args:
        kernel_size: rows and columns of the convolution, 1 or 3 each; None for the identity.
        norm: whether a norm follows.
    """
    kernel_size: tuple[int, int] | None
    norm: bool = True

    @property
    def name(self) -> str:
        """Name of the submodule."""
        return 'branch_identity' if self.kernel_size is None else 'branch_{}x{}'.format(*self.kernel_size)


CONV_3X3, CONV_1X1, IDENTITY = Branch((3, 3)), Branch((1, 1)), Branch(None)


class BranchSum(LinearPart):
    """A sum of branches, optionally followed by a norm.

    The identity branch exists only if stride is 1 and ``in_channels == out_channels``. Dilation does not affect an axis along
    which a kernel is 1 wide, because such a kernel only covers the center of the 3x3 kernel.

    If ``recompute_1x1`` is set, the backward pass recomputes the 1x1 convolution and its norm, so the convolution's output is
    not stored. With the paper's three branches, activations take a third less memory, and the backward pass costs an additional
    ninth of the multiplications of the forward pass.

    Args:
        in_channels, out_channels, stride, dilation, groups, norm_cfg: see :class:`LinearPart`.
    """
    branch_3x3: ConvBranch
    branches: ClassVar[tuple[Branch, ...]]
    norm_after_sum: ClassVar[bool] = False

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, groups: int = 1,
                 norm_cfg: dict = dict(type='BN')) -> None:
        super().__init__(in_channels, out_channels, stride, dilation, groups)
        has_identity = stride == 1 and in_channels == out_channels
        for branch in self.branches:
            exists = branch.kernel_size is not None or has_identity
            setattr(self, branch.name, self._build(branch, norm_cfg) if exists else None)
        self.norm = build_norm(norm_cfg, out_channels) if self.norm_after_sum else None
        self.recompute_1x1 = False

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride))."""
        y = reduce(torch.add, self.outputs(x))
        return y if self.norm is None else self.norm(y)

    def outputs(self, x: Tensor) -> Iterator[Tensor]:
        """Output of each branch."""
        saving: ConvBranch | None = getattr(self, 'branch_1x1', None) if self.recompute_1x1 and self.training else None
        for branch in self._modules_to_add():
            recompute = saving is not None and len(saving) == 2 and branch is saving
            yield recomputed(branch, x) if recompute else branch(x)

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """See :meth:`LinearPart.fuse`."""
        return conv_with(self.branch_3x3.conv, *self.kernel_and_bias())

    def kernel_and_bias(self) -> tuple[Tensor, Tensor]:
        """Kernel (C_out, C_in / groups, 3, 3) and bias (C_out,) of the equivalent convolution in float64.

        The kernels and biases of the branches add up (paper, section 3.3, Figure 4).
        """
        kernels, biases = zip(*(fold_branch(branch, self.out_channels, self.groups, self.branch_3x3.conv.weight.device)
                                for branch in self._modules_to_add()))
        kernel, bias = sum(kernels), sum(biases)
        return (kernel, bias) if self.norm is None else fold_norm(kernel, bias, self.norm)

    def _modules_to_add(self) -> list[nn.Module]:
        found = (getattr(self, branch.name) for branch in self.branches)
        return [branch for branch in found if branch is not None]

    def _build(self, branch: Branch, norm_cfg: dict) -> nn.Module:
        if branch.kernel_size is None:
            return build_norm(norm_cfg, self.out_channels) if branch.norm else nn.Identity()
        conv = padded_conv(self.in_channels, self.out_channels, self.stride, self.dilation, self.groups, False,
                           branch.kernel_size)
        return ConvBranch(conv, build_norm(norm_cfg, self.out_channels) if branch.norm else None)
