"""Pruning: the pruned network equals the masked one, and what is removed is what matters least."""
import copy
from functools import partial

import pytest
import torch
from helpers import TINY_ARCH, TINY_SE_ARCH, assert_relatively_close, randomize
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from repvgg_seg.core.errors import UserError
from repvgg_seg.deploy import fuse, undilate
from repvgg_seg.deploy.channels import channel_groups, mask, pruned_state, set_widths
from repvgg_seg.deploy.fusing import fuse_for_inference
from repvgg_seg.deploy.pruning import Choice, Selection, by_multiplications, by_time, choices, output_pixels, taylor_importance

EXACT = 1e-10  # Relative to the largest output, in float64.
SIZE = (64, 96)
PLAIN = dict(num_blocks=(2, 2, 4, 1), width_factors=(0.25, 0.1875, 0.125, 0.09375))
RATIOS = {'plain': PLAIN, 'groups': TINY_ARCH}


def model_config(head: str, arch: dict | str = 'plain', deploy: bool = False) -> ConfigDict:
    norm = None if deploy else dict(type='BN')
    shared = dict(num_classes=4, dropout_ratio=0, norm_cfg=norm, align_corners=False)
    if head == 'fpn':
        out_indices, head_config = (1, 2, 3), dict(
            type='repvgg_seg.RepFPNHead', in_channels=[24, 32, 48], context_channels=16, fusion_channels=(16, 12),
            block_channels=(12, ), channels=8, **shared)
    elif head == 'psp':
        out_indices, head_config = (2, 3), dict(type='repvgg_seg.FactorizedPSPHead', in_channels=48, in_index=1, channels=12,
                                                pool_channels=8, **shared)
    else:
        out_indices, head_config = (3, ), dict(type=head, in_channels=48, channels=12, **shared)
    return ConfigDict(
        type='EncoderDecoder', data_preprocessor=dict(type='SegDataPreProcessor', size=SIZE),
        backbone=dict(type='repvgg_seg.RepVGG', arch=RATIOS.get(arch, arch) if isinstance(arch, str) else arch,
                      dilation='fast' if head == 'psp' else None, out_indices=out_indices, deploy=deploy),
        decode_head=head_config, test_cfg=dict(mode='whole'))


def build(config: ConfigDict) -> torch.nn.Module:
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(config)


def fused_model(head: str, arch: str | dict = 'plain') -> torch.nn.Module:
    return fuse_for_inference(randomize(build(model_config(head, arch))).double().eval())


def times(factors: torch.Tensor, module: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
    """A forward hook."""
    return output * factors


def batch() -> dict:
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(4, (1, *SIZE)))) for _ in range(2)]
    return dict(inputs=[torch.randint(256, (3, *SIZE), dtype=torch.uint8) for _ in samples], data_samples=samples)


def choice_of(model: torch.nn.Module, keep: float) -> Choice:
    """By random importance."""
    groups = channel_groups(model)
    importance = {group.name: torch.rand(group.size).double() for group in groups}
    return by_multiplications(choices(Selection(groups, importance, output_pixels(model, 3, SIZE), 2)), keep)


@pytest.mark.parametrize('arch', RATIOS)
@pytest.mark.parametrize('head', ['fpn', 'psp'])
def test_pruned_equals_masked(head, arch):
    model = fused_model(head, arch)
    groups, choice = channel_groups(model), choice_of(model, 0.5)
    kept = choice.kept
    assert all(len(kept[group.name]) < group.size for group in groups[:3]), 'something of every kind is removed'
    config = model_config(head, arch, deploy=True)
    set_widths(model, config, choice.counts)
    pruned = build(config).double().eval()
    pruned.load_state_dict(pruned_state(model, groups, kept), strict=True)
    masked = copy.deepcopy(model)
    mask([*channel_groups(masked)], kept)
    images = torch.randn(2, 3, *SIZE).double()
    expected = masked(images)
    assert (expected - model(images)).abs().max() > 0.1 * expected.abs().max(), 'nothing was removed'
    assert_relatively_close(pruned(images), expected, EXACT)
    if head == 'psp':
        assert_relatively_close(undilate(pruned)(images), expected, EXACT)


@pytest.mark.parametrize('head', ['fpn', 'psp'])
def test_multiplications_are_those_of_the_pruned_network(head):
    model = fused_model(head)
    choice = choice_of(model, 0.6)
    config = model_config(head, deploy=True)
    set_widths(model, config, choice.counts)
    pruned = build(config).double().eval()
    assert choice_of(pruned, 1).multiplications == choice.multiplications <= 0.6 * choice_of(model, 1).multiplications


@pytest.mark.parametrize('arch', RATIOS)
def test_pruned_network_is_an_ordinary_config_in_training_form(arch):
    model = fused_model('fpn', arch)
    config = model_config('fpn', arch)
    set_widths(model, config, choice_of(model, 0.5).counts)
    trained = randomize(build(config)).double().eval()
    images = torch.randn(1, 3, *SIZE).double()
    assert_relatively_close(fuse(trained)(images), trained(images), EXACT)


@pytest.mark.parametrize('head', ['fpn', 'psp'])
def test_importance_is_the_squared_change_of_the_loss(head):
    """To first order: against the derivative by a factor on each channel of some producers."""
    model, data = fused_model(head).float(), batch()
    groups = channel_groups(model)
    importance = taylor_importance(model.requires_grad_(True), groups, [data])
    # The bottleneck's convolution is computed from slices, so it has no output of its own.
    for group in (group for group in groups[::3] if group.name != 'head.bottleneck'):
        factors = torch.ones(group.size, requires_grad=True)
        hooks = [span.conv.register_forward_hook(
            partial(times, factors[span.offset:span.offset + span.size, None, None])) for span in group.producers]
        inputs = model.data_preprocessor(copy.deepcopy(data), training=True)
        model.parse_losses(model.loss(**inputs))[0].backward()
        for hook in hooks:
            hook.remove()
        torch.testing.assert_close(importance[group.name].float(), factors.grad.square(), rtol=1e-3, atol=1e-7)


def test_least_important_channels_go_first():
    model = fused_model('fpn')
    groups = channel_groups(model)
    importance = {group.name: torch.arange(group.size).flip(0).double() + 1 for group in groups}
    kept = by_multiplications(choices(Selection(groups, importance, output_pixels(model, 3, SIZE), 2)), 0.5).kept
    for group in groups:
        assert kept[group.name].tolist() == list(range(len(kept[group.name])))


@pytest.mark.parametrize(('head', 'arch', 'message'), [
    ('FCNHead', 'plain', 'FCNHead cannot be pruned; expected RepFPNHead or FactorizedPSPHead on one feature map each'),
    ('fpn', TINY_SE_ARCH | dict(width_factors=(0.25, 0.1875, 0.125, 0.09375)),
     'a RepVGG with squeeze-and-excitation (use_se) cannot be pruned'),
], ids=['head', 'se'])
def test_models_that_cannot_be_pruned(head, arch, message):
    with pytest.raises(UserError) as caught:
        channel_groups(fused_model(head, arch))
    assert str(caught.value) == message


def test_too_little_to_keep():
    with pytest.raises(UserError, match='^at least 0.[0-9]+ of the multiplications remain when every layer has its least '
                                        'width; give a larger --keep than 0.001, or a smaller --multiple$'):
        choice_of(fused_model('fpn'), 0.001)


@pytest.mark.parametrize('milliseconds', [100, 57, 8])
def test_first_choice_that_is_fast_enough(milliseconds):
    found = [Choice({}, multiplications) for multiplications in range(100, 7, -1)]
    assert by_time(found, milliseconds, lambda choice: float(choice.multiplications)).multiplications == milliseconds


def test_none_is_fast_enough():
    with pytest.raises(UserError) as caught:
        by_time([Choice({}, 9), Choice({}, 8)], 7, lambda choice: float(choice.multiplications))
    assert str(caught.value) == ('with the least width of every layer, an image takes 8.0 ms; give more --milliseconds than 7, '
                                 'a smaller --multiple, or a smaller --size')
