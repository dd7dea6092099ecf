"""Fusing whole models: what they compute, their keys, and what of the given model is touched."""
import pytest
import torch
from helpers import TINY_ARCH, TINY_SE_ARCH, assert_relatively_close, assert_same_state, norms_of, randomize, snapshot
from mmcv.cnn import ConvModule
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from torch import nn

from repvgg_seg.core.errors import ArgumentTypeError
from repvgg_seg.deploy import fuse
from repvgg_seg.models import RepVGG
from repvgg_seg.models.blocks import RepConv

EXACT = 1e-10  # Relative to the largest output, in float64.
WIDTHS = {'groups': (32, 48), 'se': (48, 64)}
ARCHS = {'groups': TINY_ARCH, 'se': TINY_SE_ARCH}


def make_segmentor(norm='BN', head='repvgg_seg.FactorizedPSPHead', arch='groups', deploy=False, backbone_norm=None):
    norm_cfg = dict(type=norm)
    head_norm = None if deploy else norm_cfg
    stage4, stage5 = WIDTHS[arch]
    shared = dict(num_classes=4, dropout_ratio=0, norm_cfg=head_norm, align_corners=True)
    config = dict(
        type='EncoderDecoder',
        backbone=dict(type='repvgg_seg.RepVGG', arch=ARCHS[arch], dilation='fast', out_indices=(2, 3), deploy=deploy,
                      norm_cfg=backbone_norm or norm_cfg),
        decode_head=dict(type=head, in_channels=stage5, in_index=1, channels=8, **shared),
        auxiliary_head=dict(type='FCNHead', in_channels=stage4, in_index=0, channels=8, num_convs=1, concat_input=False,
                            **shared),
        test_cfg=dict(mode='whole'))
    with DefaultScope.overwrite_default_scope('mmseg'):
        return randomize(revert_sync_batchnorm(MODELS.build(config))).double().eval()


def logits(segmentor, x):
    """Of both heads."""
    features = segmentor.extract_feat(x)
    return [segmentor.decode_head(features), segmentor.auxiliary_head(features)]


@pytest.fixture
def images():
    return torch.randn(2, 3, 65, 97).double()


@pytest.mark.parametrize('arch', WIDTHS)
@pytest.mark.parametrize('norm', ['BN', 'SyncBN'])
@pytest.mark.parametrize('head', ['repvgg_seg.FactorizedPSPHead', 'PSPHead'])
def test_segmentor(head, norm, arch, images):
    model = make_segmentor(norm, head, arch)
    expected = logits(model, images)
    fused = fuse(model)
    assert type(fused) is type(model)
    assert norms_of(fused) == [] and fused.backbone.deploy
    assert_relatively_close(logits(fused, images), expected, EXACT)


@pytest.mark.parametrize('arch', WIDTHS)
@pytest.mark.parametrize('head', ['repvgg_seg.FactorizedPSPHead', 'PSPHead'])
def test_fused_state_strictly_loads_into_the_deploy_form(head, arch, images):
    fused = fuse(make_segmentor('BN', head, arch))
    built = make_segmentor('BN', head, arch, deploy=True)
    assert list(built.state_dict()) == list(fused.state_dict())
    built.load_state_dict(fused.state_dict(), strict=True)
    torch.testing.assert_close(logits(built, images), logits(fused, images), rtol=0, atol=0)


def test_copies_by_default(images):
    model = make_segmentor()
    state, modules = snapshot(model), [id(module) for module in model.modules()]
    fused = fuse(model)
    assert fused is not model
    assert_same_state(model, state)
    assert [id(module) for module in model.modules()] == modules and not model.backbone.deploy
    with torch.no_grad():
        for parameter in fused.parameters():
            parameter.zero_()
    assert_same_state(model, state)


def test_inplace(images):
    model = make_segmentor()
    expected = logits(model, images)
    assert fuse(model, inplace=True) is model
    assert norms_of(model) == [] and model.backbone.deploy
    assert_relatively_close(logits(model, images), expected, EXACT)


@pytest.mark.parametrize('inplace', [True, False])
def test_idempotent(inplace, images):
    once = fuse(make_segmentor())
    expected, state = logits(once, images), snapshot(once)
    twice = fuse(once, inplace=inplace)
    assert (twice is once) == inplace
    assert_same_state(twice, state)
    torch.testing.assert_close(logits(twice, images), expected, rtol=0, atol=0)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_dtype_mode_and_requires_grad_are_kept(dtype):
    model = make_segmentor().to(dtype).train()
    model.decode_head.requires_grad_(False)
    fused = fuse(model)
    assert {parameter.dtype for parameter in fused.parameters()} == {dtype}
    assert all(module.training for module in fused.modules())
    flags = {name: parameter.requires_grad for name, parameter in fused.named_parameters()}
    assert flags == {name: not name.startswith('decode_head') for name in flags}
    assert all(parameter.is_leaf for parameter in fused.parameters())


@pytest.mark.parametrize('inplace', [True, False])
@pytest.mark.parametrize('norm_cfg, name', [
    (dict(type='GN', num_groups=2), 'GroupNorm'), (dict(type='IN'), 'InstanceNorm2d'),
])
def test_norm_in_the_backbone_that_cannot_be_fused_is_named(norm_cfg, name, inplace):
    model = make_segmentor(backbone_norm=norm_cfg)
    state = snapshot(model)
    with pytest.raises(TypeError, match=f'cannot fuse {name}'):
        fuse(model, inplace=inplace)
    assert_same_state(model, state)
    assert not model.backbone.deploy


def test_head_norm_that_is_no_batch_norm_stays(images):
    model = make_segmentor()
    bottleneck = ConvModule(48 + 4 * 8, 8, 3, padding=1, norm_cfg=dict(type='GN', num_groups=2))
    model.decode_head.bottleneck = bottleneck.double()
    expected = logits(model, images)
    fused = fuse(model)
    assert isinstance(fused.decode_head.bottleneck.norm, nn.GroupNorm)
    assert_relatively_close(logits(fused, images), expected, EXACT)


@pytest.mark.parametrize('arguments', [
    dict(), dict(act_cfg=None), dict(bias=True), dict(stride=2, dilation=2, groups=4), dict(padding_mode='circular'),
    dict(padding_mode='reflect'), dict(act_cfg=dict(type='LeakyReLU')), dict(order=('norm', 'conv', 'act')),
    dict(order=('act', 'conv', 'norm')), dict(norm_cfg=None), dict(norm_cfg=dict(type='BN', eps=0.1)),
], ids=str)
def test_conv_module(arguments):
    wrapped = nn.ModuleList([ConvModule(8, 8, 3, padding=1, **{'norm_cfg': dict(type='BN'), **arguments})])
    model = randomize(wrapped).double().eval()
    x = torch.randn(2, 8, 9, 11).double()
    for given in (model, model[0]):
        fused = fuse(given)
        outputs = [part[0](x) if isinstance(part, nn.ModuleList) else part(x) for part in (fused, given)]
        assert_relatively_close(*outputs, EXACT)
        # Only where the norm follows the convolution at once can it be folded into it.
        assert (norms_of(fused) == []) == ('order' not in arguments)


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('norm', [nn.BatchNorm2d, nn.SyncBatchNorm])
def test_sequential(norm, bias):
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=bias), norm(8), nn.ReLU(), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1),
                          nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d(4)), nn.BatchNorm2d(4))
    model = randomize(revert_sync_batchnorm(model)).double().eval()
    x = torch.randn(2, 3, 9, 11).double()
    fused = fuse(model)
    # The norm after the ReLU, and the one after the inner container, follow no convolution of their own container.
    assert norms_of(fused) == ['3', '6'] and len(fused) == len(model)
    assert_relatively_close(fused(x), model(x), EXACT)


@pytest.mark.parametrize('make, channels', [
    (lambda: RepVGG(TINY_ARCH, 'full'), 3),
    (lambda: nn.Sequential(RepVGG(TINY_SE_ARCH), nn.Identity()), 3),
    (lambda: RepVGG(TINY_ARCH).stages[2], 24),
    (lambda: RepVGG(TINY_ARCH).stages[2][1], 32),
], ids=['backbone', 'in a container', 'stage', 'block'])
def test_backbone_and_its_parts(make, channels):
    model = randomize(make()).double().eval()
    fused = fuse(model)
    assert norms_of(fused) == [] and norms_of(model) != []
    x = torch.randn(1, channels, 33, 33).double()
    assert_relatively_close(fused(x), model(x), EXACT)


def test_training_continues_on_the_original(images):
    model = make_segmentor().train()
    fuse(model)
    sum(output.square().mean() for output in logits(model, images)).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


class Skipping(nn.Sequential):
    """A container whose own forward does more than run its parts."""

    def forward(self, x):
        return self[1](self[0](x) + x)


@pytest.mark.parametrize('make', [
    lambda: Skipping(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)),
    lambda: RepConv(4, 4),
    lambda: (lambda conv: nn.Sequential(conv, nn.ReLU(), conv))(RepConv(4, 4)),
], ids=['sequential with its own forward', 'a bare RepConv', 'one RepConv at two places'])
def test_unusual_structures(make):
    model = randomize(make()).double().eval()
    x = torch.randn(2, 4, 9, 11).double()
    fused = fuse(model)
    assert_relatively_close(fused(x), model(x), EXACT)
    assert not any(isinstance(module, RepConv) for module in fused.modules())


class AffineOfAbsolute(nn.BatchNorm2d):
    """A batch norm whose own forward does more than the base class's, as timm's with activation."""

    def forward(self, x):
        return super().forward(x).abs()


def sharing_conv_modules():
    """As mmdet's RetinaSepBNHead: one kernel, a norm for each level of the pyramid."""
    first, second = (ConvModule(4, 4, 3, padding=1, norm_cfg=dict(type='BN')) for _ in range(2))
    second.conv = first.conv
    return nn.Sequential(first, second)


@pytest.mark.parametrize(('make', 'norms_left'), [
    (lambda: (lambda conv: nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU(), conv, nn.BatchNorm2d(4)))(nn.Conv2d(4, 4, 1)), 0),
    (lambda: (lambda norm: nn.Sequential(nn.Conv2d(4, 4, 1), norm, nn.ReLU(), norm))(nn.BatchNorm2d(4)), 1),
    (sharing_conv_modules, 0),
    (lambda: nn.Sequential(nn.Conv2d(4, 4, 1), AffineOfAbsolute(4)), 1),
    (lambda: ConvModule(4, 4, 3, conv_cfg=dict(type='Conv'), norm_cfg=dict(type='BN')), 0),
    (lambda: ConvModule(4, 4, 3, conv_cfg=dict(type='ConvAWS'), norm_cfg=dict(type='BN')), 1),
    (lambda: ConvModule(4, 4, 3, 2, conv_cfg=dict(type='Conv2dAdaptivePadding'), norm_cfg=dict(type='BN')), 1),
], ids=['one convolution with two norms', 'one norm at two places', 'one convolution in two modules', 'norm of its own kind',
        "MMCV's plain convolution", 'convolution that standardises its weights', 'convolution that pads by itself'])
def test_what_is_shared_or_of_its_own_kind(make, norms_left):
    model = randomize(make()).double().eval()
    x = torch.randn(2, 4, 9, 11).double()
    fused = fuse(model)
    assert len(norms_of(fused)) == norms_left
    assert_relatively_close(fused(x), model(x), EXACT)


def test_an_error_leaves_everything_as_it_was():
    model = nn.Sequential(ConvModule(3, 16, 3, norm_cfg=dict(type='BN')),
                          RepConv(16, 16, norm_cfg=dict(type='GN', num_groups=4)))
    before = snapshot(model)
    with pytest.raises(TypeError, match='cannot fuse GroupNorm'):
        fuse(model, inplace=True)
    assert_same_state(model, before)


def test_fusing_draws_no_random_numbers():
    model = randomize(RepVGG(TINY_ARCH))
    state = torch.get_rng_state()
    fuse(model)
    assert torch.equal(torch.get_rng_state(), state)


def test_another_package_that_would_fuse_wrongly_is_refused():
    """MMPretrain's D2se; with its checkpoint in ours, tests/models/test_layouts.py."""
    from mmpretrain.models.backbones import RepVGG as Peer
    arch = dict(num_blocks=[1, 1, 1, 1], width_factor=[0.25] * 4, group_layer_map=None, se_cfg=dict(ratio=16, divisor=1))
    model = nn.Sequential(Peer(arch, out_indices=(3, )))
    with pytest.raises(ArgumentTypeError, match=r"loses its squeeze-and-excitation .* type='repvgg_seg\.RepVGG'"):
        fuse(model, inplace=True)
    assert norms_of(model)


def test_a_module_of_another_package_fuses_itself():
    from mmpretrain.models.backbones import RepVGG as Peer
    model = randomize(nn.Sequential(Peer('A0', out_indices=(3, )))).eval().double()
    fused = fuse(model)
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    assert_relatively_close(fused(x), model(x), 1e-10)
    assert not norms_of(fused)
