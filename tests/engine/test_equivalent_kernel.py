"""The decay of the equivalent kernel against its formula, written here as loops over output channels and taps."""
import copy

import pytest
import torch
from helpers import TINY_ARCH, randomize
from mmengine.optim import build_optim_wrapper
from torch import nn

from repvgg_seg.core.errors import UserError
from repvgg_seg.engine import equivalent_kernel
from repvgg_seg.engine.equivalent_kernel import equivalent_kernel_l2
from repvgg_seg.models import RepVGG
from repvgg_seg.models.blocks import RepConv

DECAY, RATE = 0.1, 0.5
KERNELS_ONLY = dict(norm_decay_mult=0, bias_decay_mult=0)


def by_formula(conv):
    total = 0
    kernel, pointwise = conv.branch_3x3.conv.weight, conv.branch_1x1.conv.weight
    for out in range(kernel.shape[0]):
        t3, t1 = (norm.weight[out].item() / (norm.running_var[out].item() + norm.eps) ** 0.5
                  for norm in (conv.branch_3x3.norm, conv.branch_1x1.norm))
        for row in range(3):
            for column in range(3):
                if (row, column) != (1, 1):
                    total = total + (kernel[out, :, row, column] ** 2).sum()
        center = t3 * kernel[out, :, 1, 1] + t1 * pointwise[out, :, 0, 0]
        total = total + (center ** 2).sum() / (t3 ** 2 + t1 ** 2)
    return total


@pytest.mark.parametrize(('out_channels', 'groups'), [(6, 1), (6, 2), (4, 1)], ids=['plain', 'groups', 'identity branch'])
def test_value_and_gradient(out_channels, groups):
    conv = randomize(RepConv(4, out_channels, groups=groups)).double()
    kernels = [conv.branch_3x3.conv.weight, conv.branch_1x1.conv.weight]
    expected = by_formula(conv)
    actual = equivalent_kernel_l2(conv)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(value, kernels) for value in (actual, expected)), rtol=1e-12, atol=1e-12)


def test_no_gradient_reaches_the_norms():
    conv = randomize(RepConv(4, 4))
    equivalent_kernel_l2(conv).backward()
    assert all(parameter.grad is None for name, parameter in conv.named_parameters() if 'conv.weight' not in name)


def make_model() -> nn.Sequential:
    model = nn.Sequential(RepVGG(TINY_ARCH), nn.Flatten(1), nn.Linear(48, 3))
    model[0].forward = lambda x, forward=model[0].forward: forward(x)[0].mean((2, 3))
    return randomize(model).double().eval()


def optimizer_of(model, **settings):
    return build_optim_wrapper(model, dict(
        type='OptimWrapper', optimizer=dict(type='SGD', lr=RATE, momentum=0.9, weight_decay=DECAY), **settings))


@pytest.mark.parametrize('accumulated', [1, 2])
def test_a_step_is_one_with_the_formula_in_the_loss(accumulated):
    model = make_model()
    images = torch.randn(accumulated, 2, 3, 32, 32).double()
    reference = copy.deepcopy(model)
    reference[0].forward = lambda x: type(reference[0]).forward(reference[0], x)[0].mean((2, 3))
    wrapper = optimizer_of(model, constructor='repvgg_seg.EquivalentKernelDecay', paramwise_cfg=KERNELS_ONLY,
                           accumulative_counts=accumulated)
    wrapper.initialize_count_status(model, 0, accumulated)
    for batch in images:
        with wrapper.optim_context(model):
            wrapper.update_params(model(batch).square().mean())

    blocks = [module for module in reference.modules() if isinstance(module, RepConv)]
    loss = sum(reference(batch).square().mean() / accumulated for batch in images)
    loss = loss + DECAY / 2 * sum(by_formula(block) for block in blocks) + DECAY / 2 * reference[2].weight.square().sum()
    loss.backward()
    torch.optim.SGD(reference.parameters(), RATE, momentum=0.9).step()
    for (name, actual), expected in zip(model.named_parameters(), reference.parameters()):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12, msg=lambda text, name=name: f'{name}: {text}')


def test_processes_average_all_scales_in_one_operation(monkeypatch):
    calls = []
    monkeypatch.setattr(equivalent_kernel, 'all_reduce', lambda values, op: calls.append((values.numel(), op)))
    test_a_step_is_one_with_the_formula_in_the_loss(1)
    channels = [module.out_channels for module in make_model().modules() if isinstance(module, RepConv)]
    assert calls == [(2 * sum(channels), 'mean')]


def test_branches_decay_by_default_and_the_linear_layer_always():
    for constructor, expected in (('DefaultOptimWrapperConstructor', DECAY), ('repvgg_seg.EquivalentKernelDecay', 0)):
        model = make_model()
        groups = optimizer_of(model, constructor=constructor, paramwise_cfg=KERNELS_ONLY).optimizer.param_groups
        decays = {id(group['params'][0]): group['weight_decay'] for group in groups}
        assert {decays[id(p)] for name, p in model.named_parameters() if 'conv.weight' in name} == {expected}
        assert decays[id(model[2].weight)] == DECAY and decays[id(model[2].bias)] == 0


def test_frozen_kernels_stay():
    model = make_model()
    model[0].stem.requires_grad_(False)
    wrapper = optimizer_of(model, constructor='repvgg_seg.EquivalentKernelDecay', paramwise_cfg=KERNELS_ONLY)
    before = model[0].stem.conv.branch_3x3.conv.weight.clone()
    wrapper.update_params(model(torch.randn(2, 3, 32, 32).double()).sum())
    assert torch.equal(model[0].stem.conv.branch_3x3.conv.weight, before)


@pytest.mark.parametrize(('model', 'settings', 'message'), [
    (nn.Linear(2, 2), dict(paramwise_cfg=KERNELS_ONLY), 'needs a RepVGG backbone to train, found none'),
    (RepConv(2, 2), {}, 'needs paramwise_cfg'),
], ids=['no block', 'no paramwise_cfg'])
def test_refuses(model, settings, message):
    with pytest.raises(UserError, match=message):
        optimizer_of(model, constructor='repvgg_seg.EquivalentKernelDecay', **settings)
