"""What several test files need: models whose weights tell terms apart, tolerances relative to outputs, and a fresh start."""
from collections.abc import Sequence

import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from repvgg_seg.models.blocks import SqueezeExcitation

# Small, yet with a groupwise layer (the 3rd), identity branches, and several blocks to dilate. As in the paper's
# architectures no two stages after the stem have the same width.
TINY_ARCH = dict(num_blocks=(2, 2, 6, 1), width_factors=(0.25, 0.1875, 0.125, 0.09375), groups=2)  # 16, 24, 32, 48
TINY_SE_ARCH = dict(num_blocks=(1, 2, 5, 1), width_factors=(0.25, 0.25, 0.1875, 0.125), use_se=True)  # 16, 32, 48, 64


@torch.no_grad()
def randomize(model: nn.Module) -> nn.Module:
    """Give every batch norm other statistics and another affine than the initial ones, with which it would do nothing.

    Variances and weights stay away from 0; a quarter of the weights are negative. The ReLU within
    squeeze-and-excitation lets most values through.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            if module.running_mean is not None:
                module.running_mean.normal_(std=0.5)
                module.running_var.uniform_(0.5, 2)
            if module.weight is not None:
                module.weight.uniform_(0.5, 1.5)
                module.weight.mul_(torch.where(torch.rand_like(module.weight) < 0.25, -1, 1))
                module.bias.normal_(std=0.5)
        elif isinstance(module, SqueezeExcitation):
            module.reduce.bias.uniform_(1, 2)
    return model


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the state dict."""
    return {key: value.clone() for key, value in model.state_dict().items()}


def assert_same_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """The state dict has these keys and, bit for bit, these values."""
    torch.testing.assert_close(dict(model.state_dict()), state, rtol=0, atol=0)


def assert_relatively_close(actual: Tensor | Sequence[Tensor], expected: Tensor | Sequence[Tensor],
                            tolerance: float) -> None:
    """Equal up to ``tolerance`` times the largest expected value, of outputs that are neither constant nor huge."""
    if isinstance(expected, Tensor):
        actual, expected = [actual], [expected]
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected):
        largest = other.detach().abs().max().item()
        assert 1e-6 < largest < 1e9, f'an output of {largest:g} shows nothing'
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * largest)


def norms_of(model: nn.Module) -> list[str]:
    """Names of the batch norms."""
    return [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]


def forget_earlier_runs() -> None:
    """As if nothing had run in this process: the output of earlier loggers is closed."""
    for kept in (MMLogger, DefaultScope):
        kept._instance_dict.clear()
