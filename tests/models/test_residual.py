"""RepVGG's layers as a ResNet: its structure, its formula, and fusing, which keeps the shortcuts."""
import pytest
import torch
from helpers import TINY_ARCH, TINY_SE_ARCH, assert_relatively_close, assert_same_state, norms_of, randomize, snapshot
from torch import nn

from repvgg_seg.core.errors import ArgumentTypeError, CheckpointError, UserError
from repvgg_seg.deploy import fuse
from repvgg_seg.models import RepVGG
from repvgg_seg.models.variants import ResidualRepVGG
from repvgg_seg.models.variants.residual import Projection, ResidualBlock

EVEN_SE_ARCH = dict(TINY_SE_ARCH, num_blocks=(4, 2, 4, 1))


def make(*arguments, arch=TINY_ARCH, **options):
    return randomize(ResidualRepVGG(arch, *arguments, **options)).double()


@pytest.mark.parametrize('deploy', [True, False])
def test_structure_of_b0(deploy):
    """Table 7: one layer in the first and last stage, 2, 3 and 8 residual blocks in the others."""
    with torch.device('meta'):
        model = ResidualRepVGG('B0', deploy=deploy)
        plain = RepVGG('B0', block=dict(type='PlainConv'), deploy=deploy)
    blocks = [[type(block).__name__ for block in stage] for stage in model.stages]
    assert blocks == [['ResidualBlock'] * 2, ['ResidualBlock'] * 3, ['ResidualBlock'] * 8, ['RepVGGBlock']]
    first, *others = model.stages[1]
    assert isinstance(first.shortcut, nn.Conv2d if deploy else Projection)
    assert [type(block.shortcut) for block in others] == [nn.Identity] * 2
    # The projections of stages 2, 3 and 4, each with a bias or a norm, are all that plain layers do not have.
    added = sum(into * out + (out if deploy else 2 * out) for into, out in ((64, 64), (64, 128), (128, 256)))
    count = [sum(parameter.numel() for parameter in each.parameters()) for each in (model, plain)]
    assert count[0] - count[1] == added


def test_projection_has_a_norm_unless_told_otherwise():
    assert type(Projection(2, 4).norm) is nn.BatchNorm2d


def test_formula():
    model = make(arch=EVEN_SE_ARCH).eval()
    x = torch.randn(1, 16, 9, 11).double()
    change, keep = model.stages[0]
    first = change.first(x)
    second = change.second
    shortcut = nn.functional.conv2d(x, change.shortcut.conv.weight, stride=2)
    expected = (second.se(second.conv(first)) + change.shortcut.norm(shortcut)).relu()
    torch.testing.assert_close(change(x), expected, rtol=1e-10, atol=1e-10)
    y = expected
    expected = (keep.second.se(keep.second.conv(keep.first(y))) + y).relu()
    torch.testing.assert_close(keep(y), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('block', [dict(type='PlainConv'), None, dict(type='QARepConv')], ids=str)
@pytest.mark.parametrize('dilation', [None, 'full', 'fast'])
@torch.no_grad()
def test_fused_equals_unfused(dilation, block):
    model = make(dilation, (0, 1, 2, 3), block=block).eval()
    x = torch.randn(2, 3, 65, 97).double()
    expected = model(x)
    copied = fuse(model)
    assert model.switch_to_deploy() is model and model.deploy and norms_of(model) == norms_of(copied) == []
    assert {type(module) for module in model.modules() if not list(module.children())} == {nn.Conv2d, nn.ReLU, nn.Identity}
    assert_relatively_close(model(x), expected, 1e-10)
    built = ResidualRepVGG(TINY_ARCH, dilation, (0, 1, 2, 3), deploy=True).double().eval()
    assert list(built.state_dict()) == list(copied.state_dict())
    built.load_state_dict(model.state_dict(), strict=True)
    torch.testing.assert_close(built(x), copied(x), rtol=0, atol=0)


@pytest.mark.parametrize('dilation, dilated', [(None, (1, ) * 6), ('full', (2, ) * 6), ('fast', (1, 1, 2, 2, 2, 2))])
def test_dilation_is_that_of_the_layers(dilation, dilated):
    model = ResidualRepVGG(TINY_ARCH, dilation)
    layers = [layer.conv.dilation for block in model.stages[2] for layer in (block.first, block.second)]
    assert tuple(layers) == dilated


def test_gradient_reaches_every_parameter_and_recomputing_changes_nothing():
    plain = make('fast')
    saving = ResidualRepVGG(TINY_ARCH, 'fast', with_cp=True).double()
    saving.load_state_dict(plain.state_dict(), strict=True)
    x = torch.randn(2, 3, 97, 97).double()
    for model in (plain, saving):
        model(x)[0].square().sum().backward()
    assert [key for key, value in plain.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0] == []
    for expected, actual in zip(plain.parameters(), saving.parameters()):
        torch.testing.assert_close(actual.grad, expected.grad, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(dict(saving.named_buffers()), dict(plain.named_buffers()), rtol=0, atol=0)


@pytest.mark.parametrize('deploy', [True, False])
def test_frozen_stages_include_the_shortcuts(deploy):
    model = ResidualRepVGG(TINY_ARCH, frozen_stages=2, deploy=deploy).train()
    for number, part in enumerate([model.stem, *model.stages]):
        assert {parameter.requires_grad for parameter in part.parameters()} == {number > 2}
        assert {module.training for module in part.modules()} == {number > 2}


def test_strict_loading(save):
    source = make('fast').float()
    path = str(save(source.state_dict()))
    target = ResidualRepVGG(TINY_ARCH, init_cfg=dict(type='Pretrained', checkpoint=path))
    target.init_weights()
    assert_same_state(target, source.state_dict())
    other = RepVGG(TINY_ARCH, block=dict(type='PlainConv'), init_cfg=dict(type='Pretrained', checkpoint=path))
    with pytest.raises(CheckpointError, match=r'missing \(stages\.0\.0\.conv\.branch_3x3\.conv\.weight'):
        other.init_weights()
    fused = ResidualRepVGG(TINY_ARCH, deploy=True, init_cfg=dict(type='Pretrained', checkpoint=path))
    with pytest.raises(CheckpointError, match='is in training form, but the backbone has deploy=True'):
        fused.init_weights()


def test_a_norm_in_a_shortcut_that_cannot_be_fused_changes_nothing():
    model = make()
    model.stages[2][0].shortcut.norm = nn.GroupNorm(2, 32)
    before = snapshot(model)
    with pytest.raises(ArgumentTypeError, match='cannot fuse GroupNorm'):
        model.switch_to_deploy()
    assert_same_state(model, before)
    assert isinstance(model.stages[2][0], ResidualBlock) and not model.deploy


def test_layers_must_come_in_pairs():
    with pytest.raises(UserError, match='ResidualRepVGG needs one layer or an even number of them in each stage, got 5'):
        ResidualRepVGG(TINY_SE_ARCH)
