"""Weight decay of the equivalent kernel of a block, an option of the official repository ("custom L2")."""
from collections.abc import Sequence

import torch
from mmengine.dist import all_reduce
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import Tensor, nn

from ..core.errors import UserError
from ..models.blocks import RepConv
from ..models.fusion import norm_scale_shift
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS


def equivalent_kernel_l2(conv: RepConv, scales: Tensor | None = None) -> Tensor:
    """Decay term that replaces the squared norms of the 3x3 kernel K3 and the 1x1 kernel K1 (github.com/DingXiaoH/RepVGG).

    With s the scale of a branch's batch norm, weight / sqrt(var + eps), and c the center of a kernel, the term is

        sum K3^2 - sum c(K3)^2 + sum (s3 c(K3) + s1 K1)^2 / (s3^2 + s1^2)

    The scales are treated as constants, so no gradient flows to the norms. If several processes train together, the scales are
    averaged, because plain batch norms see different images in each process. As in the official code, the identity branch does
    not contribute.

    Args:
        conv: linear part of a RepVGG block in training form.
        scales: scales s3 and s1, (2, O); None computes them with :func:`branch_scales`.

    Returns:
        The decay term, a scalar.
    """
    kernel, pointwise = conv.branch_3x3.conv.weight, conv.branch_1x1.conv.weight
    scales = branch_scales([conv])[0] if scales is None else scales
    scale, pointwise_scale = scales.to(kernel.dtype).view(2, -1, 1, 1, 1)
    center = kernel[:, :, 1:2, 1:2]
    fused_center = scale * center + pointwise_scale * pointwise
    return (kernel.square().sum() - center.square().sum()
            + (fused_center.square() / (scale.square() + pointwise_scale.square())).sum())


def branch_scales(convs: Sequence[RepConv]) -> list[Tensor]:
    """Scales s3 and s1 of each linear part, (2, O) in float64, averaged over all processes in a single operation."""
    scales = [torch.stack([norm_scale_shift(branch.norm)[0].detach() for branch in (conv.branch_3x3, conv.branch_1x1)])
              for conv in convs]
    together = torch.cat([each.flatten() for each in scales])
    all_reduce(together, op='mean')
    return [part.view_as(each) for part, each in zip(together.split([each.numel() for each in scales]), scales)]


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class EquivalentKernelDecay(DefaultOptimWrapperConstructor):
    """MMEngine's constructor, with :func:`equivalent_kernel_l2` instead of the decay of the branches' kernels.

    The decay is added to the gradients when the optimizer makes a step, where SGD adds its own decay. It is thus compatible
    with mixed precision,  gradient accumulation and clipping.

    Raises:
        UserError: the model has no RepVGG block to train, or ``paramwise_cfg`` is empty.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer wrapper of a model."""
        if not self.paramwise_cfg:
            raise UserError('EquivalentKernelDecay needs paramwise_cfg, e.g. dict(norm_decay_mult=0, bias_decay_mult=0)')
        optim_wrapper = super().__call__(model)
        groups = {group['params'][0]: group for group in optim_wrapper.optimizer.param_groups}
        decays: list[tuple[RepConv, float]] = []
        for conv in model.modules():
            if isinstance(conv, RepConv) and conv.branch_3x3.conv.weight in groups:
                kernel_groups = [groups[branch.conv.weight] for branch in (conv.branch_3x3, conv.branch_1x1)]
                decays.append((conv, kernel_groups[0]['weight_decay']))
                for group in kernel_groups:
                    group['weight_decay'] = 0.0
        if not decays:
            raise UserError('EquivalentKernelDecay needs a RepVGG backbone to train, found none')
        optim_wrapper.optimizer.register_step_pre_hook(lambda *_: add_decay(decays))
        return optim_wrapper


@torch.enable_grad()
def add_decay(decays: list[tuple[RepConv, float]]) -> None:
    """Add ``decay / 2`` times the gradient of :func:`equivalent_kernel_l2` to the gradients of the kernels."""
    scales = branch_scales([conv for conv, _ in decays])
    kernels = [branch.conv.weight for conv, _ in decays for branch in (conv.branch_3x3, conv.branch_1x1)]
    terms = [decay / 2 * equivalent_kernel_l2(conv, each) for (conv, decay), each in zip(decays, scales)]
    for kernel, gradient in zip(kernels, torch.autograd.grad(terms, kernels, [torch.ones_like(term) for term in terms])):
        if kernel.grad is not None:
            kernel.grad.add_(gradient)
