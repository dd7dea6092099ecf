"""Every architecture at every dilation before and after fusing, with random batch norms."""
from dataclasses import asdict

import pytest
import torch
from helpers import TINY_ARCH, TINY_SE_ARCH, assert_relatively_close, assert_same_state, norms_of, randomize, snapshot
from mmengine.model import revert_sync_batchnorm

from repvgg_seg.models import RepVGG
from repvgg_seg.models.archs import ARCHS

ALL_STAGES = (0, 1, 2, 3)
# Relative to the largest output.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4}


@torch.no_grad()
def assert_fused_equals_unfused(model, size):
    dtype = next(model.parameters()).dtype
    x = torch.randn(1, 3, size, size, dtype=dtype)
    expected = model(x)
    assert model.switch_to_deploy() is model
    assert norms_of(model) == [] and model.deploy
    assert_relatively_close(model(x), expected, TOLERANCES[dtype])


@pytest.mark.parametrize('dtype', TOLERANCES, ids=str)
@pytest.mark.parametrize('dilation', [None, 'full', 'fast'])
@pytest.mark.parametrize('arch', ARCHS)
def test_fused_equals_unfused_at_a_quarter_of_the_width(arch, dilation, dtype):
    spec = asdict(ARCHS[arch])
    spec['width_factors'] = [factor / 4 for factor in spec['width_factors']]
    model = randomize(RepVGG(spec, dilation, ALL_STAGES)).to(dtype).eval()
    assert_fused_equals_unfused(model, 65)


@torch.no_grad()
def fill_conv(conv):
    """Drawing a hundred million weights in PyTorch's way takes most of the time: draw few, and repeat them."""
    values = torch.empty(1009).uniform_(-1, 1) / conv.weight[0].numel()**0.5
    flat = conv.weight.view(-1)
    whole = flat.numel() // 1009 * 1009
    flat[:whole].view(-1, 1009).copy_(values)
    flat[whole:].copy_(values[:flat.numel() - whole])
    if conv.bias is not None:
        conv.bias.uniform_(-0.1, 0.1)


@pytest.mark.whole
@pytest.mark.parametrize('dtype', TOLERANCES, ids=str)
@pytest.mark.parametrize('arch', ARCHS)
def test_fused_equals_unfused_at_full_width(arch, dtype, monkeypatch):
    monkeypatch.setattr(torch.nn.Conv2d, 'reset_parameters', fill_conv)
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        model = randomize(RepVGG(arch, 'fast', ALL_STAGES)).eval()
    finally:
        torch.set_default_dtype(default)
    assert_fused_equals_unfused(model, 33)


@pytest.mark.parametrize('arch', [TINY_ARCH, TINY_SE_ARCH], ids=['groups', 'se'])
@pytest.mark.parametrize('dilation', [None, 'full', 'fast'])
@pytest.mark.parametrize('norm', ['BN', 'SyncBN'])
def test_fused_strictly_loads_into_deploy_form(arch, dilation, norm):
    model = RepVGG(arch, dilation, ALL_STAGES, norm_cfg=dict(type=norm))
    model = randomize(revert_sync_batchnorm(model)).double().eval()
    x = torch.randn(2, 3, 97, 65).double()
    expected = model(x)
    built = RepVGG(arch, dilation, ALL_STAGES, norm_cfg=dict(type=norm), deploy=True).double().eval()
    built.load_state_dict(model.switch_to_deploy().state_dict(), strict=True)
    assert_relatively_close(built(x), expected, 1e-10)


@pytest.mark.parametrize('deploy', [True, False])
def test_second_call_does_nothing(deploy):
    model = randomize(RepVGG(TINY_ARCH, deploy=deploy)).switch_to_deploy()
    modules, state = list(model.modules()), snapshot(model)
    assert model.switch_to_deploy() is model
    assert [id(module) for module in model.modules()] == [id(module) for module in modules]
    assert_same_state(model, state)


@pytest.mark.parametrize('mode', [True, False])
def test_mode_frozen_stages_and_dtype_are_kept(mode):
    model = RepVGG(TINY_ARCH, frozen_stages=2).bfloat16().train(mode).switch_to_deploy()
    for number, part in enumerate([model.stem, *model.stages]):
        assert {p.requires_grad for p in part.parameters()} == {number > 2}
        assert {module.training for module in part.modules()} == {mode and number > 2}
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_trained_model_is_fused_by_its_running_statistics():
    model = RepVGG(TINY_ARCH, 'fast').double().train()
    for _ in range(3):
        model(torch.randn(2, 3, 65, 65).double() * 3 + 1)
    x = torch.randn(1, 3, 65, 65).double()
    expected = model.eval()(x)
    assert_relatively_close(model.switch_to_deploy()(x), expected, 1e-10)


@pytest.mark.parametrize('norm_cfg, name', [
    (dict(type='GN', num_groups=2), 'GroupNorm'), (dict(type='IN'), 'InstanceNorm2d'),
])
def test_norm_that_cannot_be_fused_changes_nothing(norm_cfg, name):
    model = RepVGG(TINY_ARCH, norm_cfg=norm_cfg)
    state = snapshot(model)
    with pytest.raises(TypeError, match=f'cannot fuse {name}'):
        model.switch_to_deploy()
    assert not model.deploy
    assert_same_state(model, state)


def test_one_norm_in_the_last_block_that_cannot_be_fused_changes_nothing():
    model = randomize(RepVGG(TINY_ARCH))
    model.stages[3][0].conv.branch_1x1.norm = torch.nn.GroupNorm(2, 48)
    state = snapshot(model)
    with pytest.raises(TypeError, match='cannot fuse GroupNorm'):
        model.switch_to_deploy()
    assert_same_state(model, state)
