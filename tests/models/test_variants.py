"""Each variant of the block: what it computes, by its formula, and that fusing it changes nothing."""
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from helpers import TINY_ARCH, TINY_SE_ARCH, assert_relatively_close, assert_same_state, norms_of, randomize, snapshot
from mmengine.model import revert_sync_batchnorm
from torch import nn

from repvgg_seg.core.errors import ArgumentTypeError, CheckpointError, UserError
from repvgg_seg.deploy import fuse
from repvgg_seg.models import RepVGG
from repvgg_seg.models.reparam import get_linear_part
from repvgg_seg.registry import MODELS

EXACT = dict(rtol=1e-10, atol=1e-10)
GROUPS = 2


def norm(module, x):
    """Batch norm in eval mode, written out."""
    mean, var, weight, bias = (tensor.view(-1, 1, 1) for tensor in (
        module.running_mean, module.running_var, module.weight, module.bias))
    return (x - mean) / torch.sqrt(var + module.eps) * weight + bias


def conv(part, x, branch='3x3'):
    """The convolution of a branch, from its weights."""
    weight = getattr(part, f'branch_{branch}').conv.weight
    padding = [(length - 1) // 2 * part.dilation for length in weight.shape[2:]]
    return F.conv2d(x, weight, None, part.stride, padding, [max(length, 1) for length in padding], part.groups)


def conv_norm(part, x, branch='3x3'):
    return norm(getattr(part, f'branch_{branch}').norm, conv(part, x, branch))


def dirac(part, x):
    """What an identity leaves where channels or size change: per group the first channels, and every second value."""
    x = x[:, :, ::part.stride, ::part.stride]
    into, out = part.in_channels // part.groups, part.out_channels // part.groups
    kept = min(into, out)
    parts = [F.pad(group[:, :kept], (0, 0, 0, 0, 0, out - kept)) for group in x.split(into, dim=1)]
    return torch.cat(parts, dim=1)


def dirac_net(part, x):
    weight = part.branch_3x3.conv.weight
    normalized = torch.stack([kernel / kernel.norm() for kernel in weight])
    scaled = F.conv2d(x, normalized, None, part.stride, part.dilation, part.dilation, part.groups)
    return norm(part.branch_3x3.norm, part.identity_scale[:, 0] * dirac(part, x) + part.weight_scale[:, 0] * scaled)


def identity(part, x, by=lambda part, x: norm(part.branch_identity, x)):
    return 0 if part.stride == 2 or part.in_channels != part.out_channels else by(part, x)


def same(part, x):
    return x


# Name -> formula of its output; parameters of a layer with n = C_in C_out / groups and c output channels, without an identity
# branch; parameters of that branch a channel.
FORMULAS = {
    'RepConv': (lambda p, x: conv_norm(p, x) + conv_norm(p, x, '1x1') + identity(p, x), lambda n, c: 10 * n + 4 * c, 2),
    'PlainConv': (conv_norm, lambda n, c: 9 * n + 2 * c, 0),
    'IdentityOnly': (lambda p, x: conv_norm(p, x) + identity(p, x), lambda n, c: 9 * n + 2 * c, 2),
    'PointwiseOnly': (lambda p, x: conv_norm(p, x) + conv_norm(p, x, '1x1'), lambda n, c: 10 * n + 4 * c, 0),
    'IdentityWithoutNorm': (lambda p, x: conv_norm(p, x) + conv_norm(p, x, '1x1') + identity(p, x, same),
                            lambda n, c: 10 * n + 4 * c, 0),
    'NormAfterSum': (lambda p, x: norm(p.norm, conv(p, x) + conv(p, x, '1x1') + identity(p, x, same)),
                     lambda n, c: 10 * n + 2 * c, 0),
    'QARepConv': (lambda p, x: norm(p.norm, conv_norm(p, x) + conv(p, x, '1x1') + identity(p, x, same)),
                  lambda n, c: 10 * n + 4 * c, 0),
    'AsymmetricConv': (lambda p, x: conv_norm(p, x) + conv_norm(p, x, '1x3') + conv_norm(p, x, '3x1'),
                       lambda n, c: 15 * n + 6 * c, 0),
    'TrivialConv': (lambda p, x: norm(p.branch_3x3.norm, dirac(p, x) + conv(p, x)), lambda n, c: 9 * n + 2 * c, 0),
    'DiracConv': (dirac_net, lambda n, c: 9 * n + 4 * c, 0),
    'CompactedConv': (lambda p, x: F.conv2d(conv_norm(p, x) + conv_norm(p, x, '1x1') + identity(p, x), p.compactor,
                                            groups=p.groups), lambda n, c: 10 * n + 4 * c, 2),
    'ReLUInBranches': (lambda p, x: conv_norm(p, x).relu() + conv_norm(p, x, '1x1').relu() + identity(
        p, x, lambda p, x: norm(p.branch_identity, x).relu()), lambda n, c: 10 * n + 4 * c, 2),
}
FUSIBLE = [name for name in FORMULAS if name != 'ReLUInBranches']


def make_part(name, *geometry, **options):
    part = randomize(get_linear_part(dict(type=name))(*geometry, **options))
    for scale in (getattr(part, name, None) for name in ('identity_scale', 'weight_scale', 'compactor')):
        if scale is not None:
            nn.init.uniform_(scale, 0.5, 1.5)
    return part


def make_model(name, *arguments, arch=TINY_ARCH, **options):
    return randomize(RepVGG(arch, *arguments, block=dict(type=name), **options)).double()


def test_every_variant_is_tested():
    from repvgg_seg.models import variants
    from repvgg_seg.models.reparam import LinearPart
    registered = {name for name, kind in MODELS.module_dict.items() if isinstance(kind, type) and issubclass(kind, LinearPart)}
    assert registered == set(FORMULAS)
    assert set(variants.__all__) == registered - {'RepConv'} | {'ResidualRepVGG'}


@pytest.mark.whole
def test_a_variant_is_found_where_nobody_imported_it():
    command = "from repvgg_seg.models import RepVGG; RepVGG('A0', block=dict(type='PlainConv'))"
    subprocess.run([sys.executable, '-W', 'ignore', '-c', command], check=True, timeout=300)


@pytest.mark.parametrize('geometry', [(8, 8), (8, 8, 2), (4, 8), (8, 4), (8, 8, 1, 2, 2), (4, 8, 2, 4, 4)], ids=str)
@pytest.mark.parametrize('name', FORMULAS)
def test_formula(name, geometry):
    part = make_part(name, *geometry).double().eval()
    x = torch.randn(2, geometry[0], 9, 14).double()
    torch.testing.assert_close(part(x), FORMULAS[name][0](part, x), **EXACT)


@pytest.mark.parametrize('channels', [(16, 16), (8, 16), (16, 8)], ids=str)
@pytest.mark.parametrize('dilation', [1, 2, 4])
@pytest.mark.parametrize('groups', [1, 2, 4])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('name', FUSIBLE)
@torch.no_grad()
def test_fused_equals_unfused(name, stride, groups, dilation, channels):
    part = make_part(name, *channels, stride, dilation, groups).double().eval()
    x = torch.randn(2, channels[0], 9, 14).double()
    fused = part.fuse()
    assert type(fused) is nn.Conv2d and fused.weight.dtype == torch.float64
    expected = get_linear_part(dict(type=name)).fused_form(*channels, stride, dilation, groups)
    assert str(fused) == str(expected)
    torch.testing.assert_close(fused(x), part(x), **EXACT)


@pytest.mark.parametrize('norm_cfg', [dict(type='SyncBN'), dict(type='BN', affine=False), dict(type='BN', eps=0.01)], ids=str)
@pytest.mark.parametrize('name', FUSIBLE)
@torch.no_grad()
def test_every_batch_norm_fuses(name, norm_cfg):
    part = randomize(revert_sync_batchnorm(make_part(name, 8, 8, norm_cfg=norm_cfg))).double().eval()
    x = torch.randn(2, 8, 5, 7).double()
    torch.testing.assert_close(part.fuse()(x), part(x), **EXACT)


@pytest.mark.parametrize('name', FUSIBLE)
def test_another_norm_is_named(name):
    part = make_part(name, 8, 8, norm_cfg=dict(type='GN', num_groups=2))
    with pytest.raises(ArgumentTypeError, match='cannot fuse GroupNorm'):
        part.fuse()


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('name', FUSIBLE)
def test_dtype_is_kept_and_rounded_once(name, dtype):
    part = make_part(name, 8, 8).to(dtype)
    fused, exact = part.fuse(), part.double().fuse()
    torch.testing.assert_close(fused.weight, exact.weight.to(dtype), rtol=0, atol=0)
    torch.testing.assert_close(fused.bias, exact.bias.to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize('arch', ['B0', 'B1g4'])
@pytest.mark.parametrize('name', FORMULAS)
def test_number_of_parameters(name, arch):
    with torch.device('meta'):
        backbone, plain = RepVGG(arch, block=dict(type=name)), RepVGG(arch, deploy=True)
    _, of_layer, of_identity = FORMULAS[name]
    expected = 0
    for layer in (module for module in plain.modules() if isinstance(module, nn.Conv2d)):
        expected += of_layer(layer.in_channels * layer.out_channels // layer.groups, layer.out_channels)
        expected += layer.out_channels**2 // layer.groups if name == 'CompactedConv' else 0
        if layer.stride == (1, 1) and layer.in_channels == layer.out_channels:
            expected += of_identity * layer.out_channels
    assert sum(parameter.numel() for parameter in backbone.parameters()) == expected


@pytest.mark.parametrize('name', FORMULAS)
def test_a_checkpoint_holds_parameters_and_statistics_only(name):
    part = make_part(name, 8, 8)
    others = set(part.state_dict()) - {key for key, _ in part.named_parameters()}
    assert {key.rpartition('.')[2] for key in others} == {'running_mean', 'running_var', 'num_batches_tracked'}


def test_default_is_the_papers_block():
    ours, named = RepVGG(TINY_ARCH), RepVGG(TINY_ARCH, block=dict(type='RepConv'))
    named.load_state_dict(ours.state_dict(), strict=True)
    assert str(ours) == str(named)


@pytest.mark.parametrize('dilation', [None, 'full', 'fast'])
@pytest.mark.parametrize('name', FUSIBLE)
@torch.no_grad()
def test_backbone(name, dilation):
    model = make_model(name, dilation, (0, 1, 2, 3)).eval()
    x = torch.randn(2, 3, 65, 97).double()
    expected = model(x)
    one_by_one, copied = model.switch_to_deploy(), fuse(make_model(name, dilation))
    assert norms_of(model) == [] and model.deploy and copied.deploy
    assert_relatively_close(one_by_one(x), expected, 1e-10)
    built = RepVGG(TINY_ARCH, dilation, (0, 1, 2, 3), block=dict(type=name), deploy=True).double().eval()
    assert list(built.state_dict()) == list(copied.state_dict())
    built.load_state_dict(model.state_dict(), strict=True)
    torch.testing.assert_close(built(x), one_by_one(x), rtol=0, atol=0)


@pytest.mark.parametrize('arch', [TINY_ARCH, TINY_SE_ARCH], ids=['groups', 'se'])
@pytest.mark.parametrize('name', FORMULAS)
def test_gradient_reaches_every_parameter_and_recomputing_changes_nothing(name, arch):
    plain = make_model(name, 'fast', arch=arch)
    saving = RepVGG(arch, 'fast', block=dict(type=name), with_cp=True).double()
    saving.load_state_dict(plain.state_dict(), strict=True)
    x = torch.randn(2, 3, 97, 97).double()
    for model in (plain, saving):
        model(x)[0].square().sum().backward()
    assert [key for key, value in plain.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0] == []
    for expected, actual in zip(plain.parameters(), saving.parameters()):
        torch.testing.assert_close(actual.grad, expected.grad, **EXACT)
    torch.testing.assert_close(dict(saving.named_buffers()), dict(plain.named_buffers()), rtol=0, atol=0)


@pytest.mark.parametrize('name', FORMULAS)
def test_frozen_stages(name):
    model = make_model(name, frozen_stages=2).train()
    before = snapshot(model)
    model(torch.randn(2, 3, 65, 65).double())
    for number, part in enumerate([model.stem, *model.stages]):
        assert {parameter.requires_grad for parameter in part.parameters()} == {number > 2}
    changed = {key.split('.conv.')[0] for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert {key.rpartition('.')[0] for key in changed} == {'stages.2', 'stages.3'}


@pytest.mark.parametrize('inplace', [True, False])
@pytest.mark.parametrize('part', [lambda model: model, lambda model: model.stages[2][1]], ids=['backbone', 'block'])
def test_relu_in_branches_cannot_be_fused(part, inplace):
    model = make_model('ReLUInBranches')
    before = snapshot(model)
    with pytest.raises(ArgumentTypeError, match='cannot fuse ReLUInBranches: with a ReLU in each branch no convolution'):
        fuse(part(model), inplace=inplace)
    with pytest.raises(ArgumentTypeError, match='cannot fuse ReLUInBranches'):
        model.switch_to_deploy()
    assert not model.deploy
    assert_same_state(model, before)
    with pytest.raises(ArgumentTypeError, match='cannot fuse ReLUInBranches: .*; use its training form, or another block'):
        RepVGG(TINY_ARCH, block=dict(type='ReLUInBranches'), deploy=True)


@pytest.mark.parametrize(('block', 'error', 'message'), [
    ('PlainConv', ArgumentTypeError, r"block must be None or a dict with a type, e\.g\. dict\(.*\), got 'PlainConv'"),
    (dict(name='PlainConv'), ArgumentTypeError, "got {'name': 'PlainConv'}"),
    (dict(type='RepConvolution'), UserError, "unknown block 'RepConvolution', expected one of AsymmetricConv, .*, TrivialConv"),
    (dict(type='RepVGG'), UserError, "unknown block 'RepVGG', expected"),
    (dict(type=RepVGG), UserError, "unknown block 'RepVGG', expected"),
    (dict(type='PlainConv', bias=True, kernel=5), UserError, 'block PlainConv takes no arguments, got bias, kernel'),
], ids=str)
def test_wrong_block(block, error, message):
    with pytest.raises(error, match=message):
        RepVGG(TINY_ARCH, block=block)


def test_block_by_its_class():
    model = RepVGG(TINY_ARCH, block=dict(type=MODELS.get('repvgg_seg.PlainConv')))
    assert list(model.state_dict()) == list(RepVGG(TINY_ARCH, block=dict(type='PlainConv')).state_dict())


@pytest.mark.parametrize('name', FORMULAS)
def test_strict_loading(name, save):
    source = make_model(name, 'fast').float()
    wrapped = {f'backbone.{key}': value for key, value in source.state_dict().items()} | {'head.fc.bias': torch.ones(2)}
    target = RepVGG(TINY_ARCH, block=dict(type=name), init_cfg=dict(type='Pretrained', checkpoint=str(save(wrapped))))
    target.init_weights()
    assert_same_state(target, source.state_dict())


@pytest.mark.parametrize(('found', 'wanted', 'message'), [
    ('RepConv', 'PlainConv', r'\d+ not used \(stem\.conv\.branch_1x1\.conv\.weight'),
    ('PlainConv', 'RepConv', r'\d+ missing \(stem\.conv\.branch_1x1\.conv\.weight'),
    ('TrivialConv', 'DiracConv', r'\d+ missing \(stem\.conv\.identity_scale'),
    ('PlainConv', 'AsymmetricConv', r'\d+ missing \(stem\.conv\.branch_1x3\.conv\.weight')])
def test_weights_of_another_block_are_refused(found, wanted, message, save):
    path = save(make_model(found).float().state_dict())
    target = RepVGG(TINY_ARCH, block=dict(type=wanted), init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    with pytest.raises(CheckpointError, match=message):
        target.init_weights()


def test_hand_worked_dirac_kernel():
    part = get_linear_part(dict(type='DiracConv'))(1, 1).double()
    with torch.no_grad():
        part.branch_3x3.conv.weight.copy_(torch.tensor([[[[3.0, 0, 0], [0, 0, 0], [0, 0, 4.0]]]]))
        part.identity_scale.fill_(2)
        part.weight_scale.fill_(0.5)
    # 2 in the center, 0.5 * (3, 4) / 5 in the corners.
    expected = torch.tensor([[[[0.3, 0, 0], [0, 2, 0], [0, 0, 0.4]]]], dtype=torch.float64)
    torch.testing.assert_close(part.kernel(part.branch_3x3.conv.weight), expected, **EXACT)


def test_initial_scales_of_dirac_nets():
    part = get_linear_part(dict(type='DiracConv'))(4, 8)
    assert part.identity_scale.flatten().tolist() == [1.0] * 8
    assert part.weight_scale.flatten().tolist() == pytest.approx([0.1] * 8)
