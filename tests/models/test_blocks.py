"""A block before and after fusing: the same function, exactly; its keys, dtype, mode and gradient flags."""
import pytest
import torch
from helpers import randomize, snapshot
from mmengine.model import revert_sync_batchnorm
from torch import nn

from repvgg_seg.models.blocks import RepConv, RepVGGBlock, SqueezeExcitation
from repvgg_seg.models.reparam import padded_conv

EXACT = dict(rtol=1e-10, atol=1e-10)
BRANCH_KEYS = {'3x3.conv.weight', '1x1.conv.weight'}
NORM_KEYS = {'weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'}


def make_block(**arguments):
    sync = arguments.get('norm_cfg', {}).get('type') == 'SyncBN'
    block = RepVGGBlock(**arguments)
    return randomize(revert_sync_batchnorm(block) if sync else block).double().eval()


@torch.no_grad()
def assert_fuses_exactly(block, in_channels, size=(9, 14)):
    x = torch.randn(2, in_channels, *size).double()
    # Before the ReLU, so that negative values are compared as well; then the whole block.
    linear, whole = block.conv(x), block(x)
    block.conv = block.conv.fuse()
    assert type(block.conv) is nn.Conv2d
    torch.testing.assert_close(block.conv(x), linear, **EXACT)
    torch.testing.assert_close(block(x), whole, **EXACT)


@pytest.mark.parametrize('use_se', [False, True])
@pytest.mark.parametrize('in_channels', [16, 32])
@pytest.mark.parametrize('dilation', [1, 2, 4])
@pytest.mark.parametrize('groups', [1, 2, 4])
@pytest.mark.parametrize('stride', [1, 2])
def test_fused_equals_unfused(stride, groups, dilation, in_channels, use_se):
    block = make_block(in_channels=in_channels, out_channels=32, stride=stride, groups=groups, dilation=dilation,
                       use_se=use_se)
    assert_fuses_exactly(block, in_channels)


@pytest.mark.parametrize('norm_cfg', [
    dict(type='BN'), dict(type='BN2d'), dict(type='SyncBN'), dict(type='SyncBN', requires_grad=False),
    dict(type='BN', affine=False), dict(type='BN', eps=1e-2, momentum=0.01)
], ids=str)
@pytest.mark.parametrize('stride', [1, 2])
def test_every_batch_norm_fuses(norm_cfg, stride):
    block = make_block(in_channels=16, out_channels=16, stride=stride, norm_cfg=norm_cfg)
    assert_fuses_exactly(block, 16)


@pytest.mark.parametrize('size', [(1, 1), (2, 3), (5, 1), (7, 7), (8, 13)], ids=str)
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('dilation', [1, 4])
def test_sizes(size, stride, dilation):
    block = make_block(in_channels=4, out_channels=4, stride=stride, dilation=dilation)
    expected = tuple(-(-length // stride) for length in size)
    assert block(torch.randn(1, 4, *size).double()).shape == (1, 4, *expected)
    assert_fuses_exactly(block, 4, size)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('in_channels', [8, 16])
def test_identity_exists_where_shapes_allow(stride, in_channels):
    conv = RepConv(in_channels, 16, stride)
    has_identity = stride == 1 and in_channels == 16
    assert (conv.branch_identity is not None) == has_identity
    norms = ['3x3.norm', '1x1.norm'] + ['identity'] * has_identity
    expected = BRANCH_KEYS | {f'{norm}.{key}' for norm in norms for key in NORM_KEYS}
    assert set(conv.state_dict()) == {f'branch_{key}' for key in expected}


@pytest.mark.parametrize('dilation', [1, 2, 4])
def test_only_the_3x3_is_dilated(dilation):
    conv = RepConv(8, 8, dilation=dilation, groups=2)
    wide, narrow = conv.branch_3x3.conv, conv.branch_1x1.conv
    assert (wide.dilation, wide.padding, wide.groups) == ((dilation, ) * 2, (dilation, ) * 2, 2)
    assert (narrow.dilation, narrow.padding, narrow.groups) == ((1, 1), (0, 0), 2)


@pytest.mark.parametrize('use_se', [False, True])
def test_keys_of_the_fused_block(use_se):
    arguments = dict(in_channels=16, out_channels=16, use_se=use_se)
    block = make_block(**arguments)
    block.conv = block.conv.fuse()
    se_keys = {f'se.{conv}.{key}' for conv in ('reduce', 'expand') for key in ('weight', 'bias')}
    assert set(block.state_dict()) == {'conv.weight', 'conv.bias'} | (se_keys if use_se else set())
    built = RepVGGBlock(**arguments, deploy=True).double()
    built.load_state_dict(block.state_dict(), strict=True)
    x = torch.randn(1, 16, 5, 6).double()
    torch.testing.assert_close(built(x), block(x), rtol=0, atol=0)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtype_is_kept_and_rounded_once(dtype):
    conv = randomize(RepConv(16, 16)).to(dtype)
    fused, exact = conv.fuse(), conv.double().fuse()
    assert {parameter.dtype for parameter in fused.parameters()} == {dtype}
    torch.testing.assert_close(fused.weight, exact.weight.to(dtype), rtol=0, atol=0)
    torch.testing.assert_close(fused.bias, exact.bias.to(dtype), rtol=0, atol=0)


def test_device_is_kept():
    fused = RepConv(16, 16).to('meta').fuse()
    assert {parameter.device.type for parameter in fused.parameters()} == {'meta'}


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('requires_grad', [False, True])
def test_mode_and_requires_grad_are_kept(training, requires_grad):
    conv = RepConv(8, 8, stride=2, dilation=2, groups=4).train(training).requires_grad_(requires_grad)
    before = snapshot(conv)
    fused = conv.fuse()
    assert fused.training == training
    assert [(p.requires_grad, p.is_leaf) for p in fused.parameters()] == [(requires_grad, True)] * 2
    assert (fused.stride, fused.dilation, fused.padding, fused.groups) == ((2, 2), (2, 2), (2, 2), 4)
    torch.testing.assert_close(dict(conv.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize('norm_cfg, name', [
    (dict(type='GN', num_groups=2), 'GroupNorm'), (dict(type='IN'), 'InstanceNorm2d'),
])
def test_norm_that_cannot_be_fused_is_named(norm_cfg, name):
    with pytest.raises(TypeError, match=f'cannot fuse {name}'):
        RepConv(8, 8, norm_cfg=norm_cfg).fuse()


def test_block_ends_in_relu_after_squeeze_and_excitation():
    block = make_block(in_channels=16, out_channels=16, use_se=True)
    x = torch.randn(2, 16, 5, 9).double()
    linear = block.conv(x)
    squeezed = torch.relu(block.se.reduce(linear.mean((2, 3), keepdim=True)))
    expected = (linear * torch.sigmoid(block.se.expand(squeezed))).clamp(min=0)
    assert (expected == 0).any() and (expected > 0).any()
    torch.testing.assert_close(block(x), expected, **EXACT)


def test_squeeze_and_excitation_pools_the_whole_map():
    se = SqueezeExcitation(16).double()
    x = torch.randn(1, 16, 4, 10).double()
    torch.testing.assert_close(se(x.flip(3)), se(x).flip(3), **EXACT)
    assert (se.reduce.out_channels, se.expand.out_channels) == (1, 16)


@pytest.mark.parametrize('kernel_size', [(3, 3), (1, 1), (1, 3), (3, 1)], ids=str)
@pytest.mark.parametrize('dilation', [1, 2, 4])
@pytest.mark.parametrize('stride', [1, 2])
def test_conv_pads_by_its_dilation_where_it_is_wide(stride, dilation, kernel_size):
    conv = padded_conv(4, 8, stride, dilation, 2, bias=True, kernel_size=kernel_size)
    rows, columns = kernel_size
    assert (conv.kernel_size, conv.stride, conv.groups) == (kernel_size, (stride, stride), 2)
    assert conv.padding == (dilation if rows == 3 else 0, dilation if columns == 3 else 0)
    assert conv.dilation == (dilation if rows == 3 else 1, dilation if columns == 3 else 1)
    assert conv.bias is not None
