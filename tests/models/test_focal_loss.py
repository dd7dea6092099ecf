"""The focal loss is its formula, pixel by pixel, and cross entropy where gamma is 0."""
import math

import pytest
import torch
import torch.nn.functional as F

from repvgg_seg.models.focal_loss import FocalLoss


def draw() -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.randint(0, 4, (2, 3, 5))
    target[0, 0] = 255
    return torch.randn(2, 4, 3, 5, requires_grad=True), target


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
@pytest.mark.parametrize('class_weight', [None, [1.0, 2.0, 0.5, 3.0]])
def test_formula(gamma, class_weight):
    scores, target = draw()
    weight = torch.rand(2, 3, 5)
    expected, pixels = 0.0, 0
    for image, row, column in torch.nonzero(target != 255).tolist():
        label = target[image, row, column].item()
        probability = scores[image, :, row, column].softmax(0)[label].item()
        factor = weight[image, row, column].item() * (class_weight[label] if class_weight else 1)
        expected -= factor * (1 - probability) ** gamma * math.log(probability)
        pixels += 1
    loss = FocalLoss(gamma, class_weight, loss_weight=0.4)(scores, target, weight)
    assert loss.item() == pytest.approx(0.4 * expected / pixels, rel=1e-5)
    loss.backward()
    assert torch.isfinite(scores.grad).all() and scores.grad[0, :, 0].abs().sum() == 0 < scores.grad.abs().sum()


def test_gamma_0_is_cross_entropy():
    scores, target = draw()
    torch.testing.assert_close(FocalLoss(gamma=0)(scores, target), F.cross_entropy(scores, target, ignore_index=255))


def test_only_ignored_pixels():
    scores, target = draw()
    loss = FocalLoss()(scores, torch.full_like(target, 255))
    loss.backward()
    assert loss == 0 and not scores.grad.any()


def test_probabilities_of_1_and_0_have_gradients():
    scores = torch.tensor([200.0, -200.0]).reshape(1, 2, 1, 1).repeat(2, 1, 1, 1).requires_grad_()
    FocalLoss(gamma=0.5)(scores, torch.tensor([0, 1]).reshape(2, 1, 1)).backward()
    assert torch.isfinite(scores.grad).all()
