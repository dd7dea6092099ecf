"""Focal loss (Lin et al., ICCV 2017, https://arxiv.org/abs/1708.02002) on the softmax of class scores."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import MODELS

EPSILON = 1e-7


@MODELS.register_module()
class FocalLoss(nn.Module):
    """Cross entropy in which each pixel is weighted by ``(1 - p) ** gamma``, where ``p`` is the probability of its class.

    MMSegmentation's loss of the same name needs MMCV's compiled operators on GPUs, and fails on CPUs.

    Args:
        gamma: exponent, 0 or more; 0 gives cross entropy.
        class_weight: weight of each class; None for equal weights.
        loss_weight: factor of the loss.
        loss_name: name in the log, which begins with 'loss'.
    """

    def __init__(self, gamma: float = 2.0, class_weight: Sequence[float] | None = None, loss_weight: float = 1.0,
                 loss_name: str = 'loss_focal') -> None:
        super().__init__()
        self.gamma, self.class_weight, self.loss_weight, self.loss_name = gamma, class_weight, loss_weight, loss_name

    def forward(self, scores: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = 255) -> Tensor:
        """Compute the loss.

        Args:
            scores: logits with shape ``(N, C, H, W)``.
            target: class indices with shape ``(N, H, W)``.
            weight: weight of each pixel with shape ``(N, H, W)``; None for equal weights.
            ignore_index: value of pixels that do not count.

        Returns:
            Weighted mean over the pixels that count, a scalar; 0 if none does.
        """
        counts = target != ignore_index
        label = target.where(counts, torch.zeros_like(target))
        log_probability = F.log_softmax(scores.float(), dim=1).gather(1, label[:, None])[:, 0]
        missing = (-log_probability.expm1()).clamp(min=EPSILON)  # 1 - p; a power of 0 can have an infinite gradient.
        loss = -missing ** self.gamma * log_probability
        factor = counts.to(loss.dtype)
        if self.class_weight is not None:
            factor = factor * loss.new_tensor(self.class_weight)[label]
        if weight is not None:
            factor = factor * weight
        return self.loss_weight * (loss * factor).sum() / counts.sum().clamp(min=1)
