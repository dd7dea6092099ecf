"""FactorizedPSPHead is MMSegmentation's PSPHead: parameters, outputs and gradients."""
import copy

import pytest
import torch
from helpers import assert_relatively_close, norms_of, randomize
from mmseg.models.decode_heads import PSPHead
from mmseg.models.decode_heads.psp_head import PPM

from repvgg_seg.core.errors import UserError
from repvgg_seg.models import FactorizedPSPHead

CHANNELS, NUM_CLASSES, BATCH = 12, 5, 4
# Relative to the largest value of the tensor compared.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}


def make_head(kind, in_channels=24, channels=CHANNELS, norm_cfg=dict(type='BN'), **arguments):
    head = kind(in_channels=in_channels, channels=channels, num_classes=NUM_CLASSES, dropout_ratio=0, norm_cfg=norm_cfg,
                **{'align_corners': False, **arguments})
    return randomize(head)


def make_pair(dtype=torch.float64, **arguments):
    """A PSPHead and, with its weights, a FactorizedPSPHead."""
    expected, actual = make_head(PSPHead, **arguments).to(dtype), make_head(FactorizedPSPHead, **arguments).to(dtype)
    actual.load_state_dict(expected.state_dict(), strict=True)
    return actual, expected


def run(head, x, weights):
    """Output, gradient of the input, gradients of the parameters, and the buffers afterwards."""
    x = x.clone().requires_grad_()
    output = head([x])
    (output * weights).sum().backward()
    results = {'output': output.detach(), 'input': x.grad}
    results |= {name: parameter.grad for name, parameter in head.named_parameters()}
    return results | {name: buffer for name, buffer in head.named_buffers() if buffer.is_floating_point()}


def assert_equal_heads(actual, expected, size, dtype=torch.float64):
    x, weights = torch.randn(BATCH, 24, *size, dtype=dtype), torch.randn(BATCH, NUM_CLASSES, *size, dtype=dtype)
    actual, expected = run(actual, x, weights), run(expected, x, weights)
    assert actual.keys() == expected.keys()
    # A conv bias before a norm in training mode has no gradient but rounding: none of these convolutions has one.
    for name, value in expected.items():
        largest = value.abs().max().item()
        assert largest > 1e-6, f'{name} is {largest:g}: nothing to compare'
        torch.testing.assert_close(actual[name], value, rtol=0, atol=TOLERANCES[dtype] * max(largest, 1e-3),
                                   msg=lambda text, name=name: f'{name}: {text}')


@pytest.mark.parametrize('dtype', TOLERANCES, ids=str)
@pytest.mark.parametrize('size', [(7, 9), (45, 60), (3, 3), (12, 6), (1, 5)], ids=str)
@pytest.mark.parametrize('pool_scales', [(1, 2, 3, 6), (1, ), (2, 4)], ids=str)
@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('training', [False, True])
def test_equals_psp_head(training, align_corners, pool_scales, size, dtype):
    heads = make_pair(dtype, pool_scales=pool_scales, align_corners=align_corners)
    assert_equal_heads(*(head.train(training) for head in heads), size, dtype)


@pytest.mark.parametrize('norm_cfg, act_cfg', [
    (None, dict(type='ReLU')), (dict(type='BN'), None), (dict(type='GN', num_groups=2), dict(type='LeakyReLU')),
], ids=str)
@pytest.mark.parametrize('training', [False, True])
def test_other_norms_and_activations(norm_cfg, act_cfg, training):
    heads = make_pair(norm_cfg=norm_cfg, act_cfg=act_cfg)
    assert_equal_heads(*(head.train(training) for head in heads), (9, 14))


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('pool_channels', [6, 20])
@pytest.mark.parametrize('training', [False, True])
def test_pool_channels_that_differ(pool_channels, align_corners, training):
    actual = make_head(FactorizedPSPHead, pool_channels=pool_channels, align_corners=align_corners).double()
    # PSPHead with another width of its pyramid: of MMSegmentation's parts, only their sizes differ.
    expected = make_head(PSPHead, align_corners=align_corners).double()
    expected.psp_modules = PPM((1, 2, 3, 6), 24, pool_channels, None, dict(type='BN'), dict(type='ReLU'), align_corners)
    expected.bottleneck = copy.deepcopy(actual.bottleneck)
    expected.double().load_state_dict(actual.state_dict(), strict=True)
    assert actual.psp_modules[0][1].conv.out_channels == pool_channels
    assert_equal_heads(actual.train(training), expected.train(training), (9, 14))


def test_transformed_inputs():
    arguments = dict(in_channels=[8, 16], in_index=(0, 1), input_transform='resize_concat')
    actual, expected = make_pair(**arguments)
    features = [torch.randn(1, 8, 13, 9).double(), torch.randn(1, 16, 7, 5).double()]
    assert_relatively_close(actual.eval()(features), expected.eval()(features), TOLERANCES[torch.float64])


@pytest.mark.parametrize('norm_cfg', [None, dict(type='BN'), dict(type='SyncBN')], ids=str)
@pytest.mark.parametrize('pool_scales', [(1, 2, 3, 6), (2, )], ids=str)
def test_keys_and_shapes_are_psp_heads(pool_scales, norm_cfg):
    actual, expected = (make_head(kind, pool_scales=pool_scales, norm_cfg=norm_cfg).state_dict()
                        for kind in (FactorizedPSPHead, PSPHead))
    assert list(actual) == list(expected)
    assert [value.shape for value in actual.values()] == [value.shape for value in expected.values()]


@pytest.mark.parametrize('align_corners', [False, True])
def test_bfloat16_autocast(align_corners):
    actual, expected = (head.eval() for head in make_pair(torch.float32, align_corners=align_corners))
    x = [torch.randn(BATCH, 24, 15, 21)]
    exact = expected(x).detach()
    with torch.autocast('cpu', torch.bfloat16):
        low = actual(x)
    assert low.dtype == torch.bfloat16
    assert_relatively_close(low.detach().float(), exact, 0.05)


def test_gradients_under_autocast_are_finite_and_close():
    heads = make_pair(torch.float32, norm_cfg=None)
    x, grads = torch.randn(BATCH, 24, 15, 21), []
    for head in heads:
        with torch.autocast('cpu', torch.bfloat16):
            head([x]).float().square().mean().backward()
        grads.append([parameter.grad for parameter in head.parameters()])
    assert_relatively_close(*grads, 0.05)


def test_whole_head_in_bfloat16():
    actual, expected = (head.eval() for head in make_pair(torch.float32))
    x = torch.randn(BATCH, 24, 90, 120)
    low = actual.bfloat16()([x.bfloat16()])
    assert low.dtype == torch.bfloat16
    assert_relatively_close(low.detach().float(), expected([x]).detach(), 0.05)


def test_upsampled_concatenation_is_never_built():
    """PSPHead keeps the concatenation (N, C_in + 4 * C_pool, H, W) for the backward pass; ours only the input."""
    largest = []
    for kind in (FactorizedPSPHead, PSPHead):
        head, saved = make_head(kind, channels=8, norm_cfg=None), []
        with torch.autograd.graph.saved_tensors_hooks(lambda kept, saved=saved: saved.append(kept.numel()) or kept,
                                                      lambda kept: kept):
            head([torch.randn(1, 24, 40, 40)])
        largest.append(max(saved))
    assert largest == [24 * 40 * 40, (24 + 4 * 8) * 40 * 40]


def test_norms_are_the_same_modules():
    heads = make_pair()
    assert norms_of(heads[0]) == norms_of(heads[1]) != []


@pytest.mark.parametrize('arguments, message', [
    (dict(conv_cfg=dict(type='Conv2d')), "expected conv_cfg=None, got {'type': 'Conv2d'}"),
    (dict(pool_scales=()), r'pool_scales must be positive integers, got \(\)'),
    (dict(pool_scales=(1, 0)), r'pool_scales must be positive integers, got \(1, 0\)'),
    (dict(pool_scales=(1, 2.5)), r'pool_scales must be positive integers, got \(1, 2.5\)'),
], ids=str)
def test_wrong_argument(arguments, message):
    with pytest.raises(UserError, match=message):
        make_head(FactorizedPSPHead, **arguments)
