"""Checkpoints of other code bases, made by the installed peers themselves, give the same features here."""
import pytest
import timm
import torch
from helpers import assert_relatively_close, randomize
from mmpretrain.models import RepVGG as MMPretrainRepVGG
from timm.models.byobnet import ByobNet, ByoModelCfg, _rep_vgg_bcfg
from timm.utils.model import reparameterize_model

from repvgg_seg.models import RepVGG
from repvgg_seg.models.layouts import LAYOUTS, to_own_layout
from repvgg_seg.models.pretrained import load_pretrained

ALL_STAGES = (0, 1, 2, 3)
TOLERANCE = 1e-9  # Relative to the largest output, float64.
# D2se in little; its 133 million weights are checked by their names and shapes.
SMALL_SE = dict(num_blocks=(1, 2, 3, 1), width_factors=(1, 0.75, 0.5, 0.25), use_se=True)
TIMM_SE = dict(block_type='rep', attn_layer='se', attn_kwargs=dict(rd_ratio=0.0625, rd_divisor=1))
MMPRETRAIN_SE = dict(num_blocks=[1, 2, 3, 1], width_factor=[1, 0.75, 0.5, 0.25], group_layer_map=None,
                     se_cfg=dict(ratio=16, divisor=1))


def make_timm(arch):
    if arch is SMALL_SE:
        blocks = _rep_vgg_bcfg(d=(1, 2, 3, 1), wf=(1, 0.75, 0.5, 0.25))
        return ByobNet(ByoModelCfg(blocks=blocks, stem_type='rep', stem_chs=64, attn_layer='se',
                                   attn_kwargs=TIMM_SE['attn_kwargs']))
    return timm.create_model(f'repvgg_{arch.lower()}', pretrained=False)


def timm_features(model, x):
    x, outputs = model.stem(x), []
    for stage in model.stages:
        x = stage(x)
        outputs.append(x)
    return outputs


def make_mmpretrain(arch, **arguments):
    return MMPretrainRepVGG(arch=MMPRETRAIN_SE if arch is SMALL_SE else arch, out_indices=ALL_STAGES, **arguments)


def assert_loads(state, arch, deploy, x, expected, path):
    torch.save(state, path)
    # Without the default initialization, which takes longer than all the rest.
    with torch.device('meta'):
        backbone = RepVGG(arch, out_indices=ALL_STAGES, deploy=deploy).double()
    backbone.to_empty(device='cpu')
    load_pretrained(backbone, path)
    path.unlink()  # A temporary folder outlives the test run.
    assert_relatively_close(backbone.eval()(x), expected, TOLERANCE)


@pytest.fixture
def image():
    return torch.randn(1, 3, 64, 64).double()


@pytest.mark.parametrize('deploy', [False, True], ids=['training', 'fused'])
@pytest.mark.parametrize('arch', ['A0', pytest.param('B1g4', marks=pytest.mark.whole), SMALL_SE], ids=['A0', 'B1g4', 'se'])
@torch.no_grad()
def test_timm(arch, deploy, image, tmp_path):
    peer = randomize(make_timm(arch)).double().eval()
    expected = timm_features(peer, image)
    if deploy:
        peer = reparameterize_model(peer)
    assert any(key.startswith('head.fc.') for key in peer.state_dict())
    assert_loads(peer.state_dict(), arch, deploy, image, expected, tmp_path / 'timm.pth')


@pytest.mark.parametrize('deploy', [False, True], ids=['training', 'fused'])
@pytest.mark.parametrize('arch', ['A0', pytest.param('B1g2', marks=pytest.mark.whole), SMALL_SE], ids=['A0', 'B1g2', 'se'])
@torch.no_grad()
def test_mmpretrain(arch, deploy, image, tmp_path):
    if arch is SMALL_SE and deploy:
        pytest.skip('MMPretrain loses squeeze-and-excitation in its fused form: there is nothing right to compare with')
    peer = randomize(make_mmpretrain(arch)).double()
    peer.eval()
    expected = peer(image)
    if deploy:
        peer.switch_to_deploy()
    # As its classifiers are saved.
    state = {f'backbone.{key}': value for key, value in peer.state_dict().items()}
    state |= {'head.fc.weight': torch.zeros(10, 4), 'head.fc.bias': torch.zeros(10)}
    assert_loads(dict(meta={}, state_dict=state), arch, deploy, image, expected, tmp_path / 'mmpretrain.pth')


def official_name(key):
    """The name in github.com/DingXiaoH/RepVGG of one of our names."""
    part, rest = key.split('.', 1)
    if part == 'stem':
        block = 'stage0'
    else:
        stage, index, rest = rest.split('.', 2)
        block = f'stage{int(stage) + 1}.{index}'
    for ours, theirs in (('conv.branch_3x3.conv.', 'rbr_dense.conv.'), ('conv.branch_3x3.norm.', 'rbr_dense.bn.'),
                         ('conv.branch_1x1.conv.', 'rbr_1x1.conv.'), ('conv.branch_1x1.norm.', 'rbr_1x1.bn.'),
                         ('conv.branch_identity.', 'rbr_identity.'), ('conv.', 'rbr_reparam.'),
                         ('se.reduce.', 'se.down.'), ('se.expand.', 'se.up.')):
        if rest.startswith(ours):
            return f'{block}.{theirs}{rest[len(ours):]}'
    raise AssertionError(f'no official name for {key}')


@pytest.mark.parametrize('deploy', [False, True], ids=['training', 'fused'])
@pytest.mark.parametrize('arch', ['A0', pytest.param('B1g2', marks=pytest.mark.whole), SMALL_SE], ids=['A0', 'B1g2', 'se'])
@torch.no_grad()
def test_official(arch, deploy, image, tmp_path):
    source = randomize(RepVGG(arch, out_indices=ALL_STAGES, deploy=deploy)).double().eval()
    state = {official_name(key): value for key, value in source.state_dict().items()}
    literal = ['stage0.rbr_reparam.weight', 'stage1.0.rbr_reparam.bias'] if deploy else [
        'stage0.rbr_dense.conv.weight', 'stage1.0.rbr_dense.bn.running_mean', 'stage2.1.rbr_identity.weight',
        'stage4.0.rbr_1x1.conv.weight', 'stage3.1.rbr_1x1.bn.num_batches_tracked']
    assert set(literal + ['stage0.se.down.weight', 'stage4.0.se.up.bias'] * (arch is SMALL_SE)) <= set(state)
    state |= {'linear.weight': torch.zeros(10, 4), 'linear.bias': torch.zeros(10)}
    assert_loads(state, arch, deploy, image, source(image), tmp_path / 'official.pth')


@pytest.mark.parametrize('deploy', [False, True], ids=['training', 'fused'])
@pytest.mark.parametrize('arch', ['A0', SMALL_SE], ids=['A0', 'se'])
@torch.no_grad()
def test_own(arch, deploy, image, tmp_path):
    source = randomize(RepVGG(arch, out_indices=ALL_STAGES, deploy=deploy)).double().eval()
    assert_loads(source.state_dict(), arch, deploy, image, source(image), tmp_path / 'own.pth')


@pytest.mark.parametrize('arch', [name.split('_')[1] for name in timm.list_models('repvgg_*')])
def test_every_name_and_shape_of_timm(arch):
    name = arch[0].upper() + arch[1:]
    with torch.device('meta'):
        assert_same_names(make_timm(arch).state_dict(), name, 'timm', left_out=['head.fc.bias', 'head.fc.weight'])


@pytest.mark.parametrize('deploy', [False, True], ids=['training', 'fused'])
@pytest.mark.parametrize('arch', sorted(set(MMPretrainRepVGG.arch_settings) - {'yolox-pai-small'}))
def test_every_name_and_shape_of_mmpretrain(arch, deploy):
    with torch.device('meta'):
        state = make_mmpretrain(arch, deploy=deploy).state_dict()
        assert_same_names(state, arch, 'MMPretrain', deploy)


def assert_same_names(state, arch, layout_name, deploy=False, left_out=()):
    renamed, heads, layout = to_own_layout(state)
    assert layout is LAYOUTS[layout_name] and layout.is_fused(state) == deploy
    assert sorted(heads) == sorted(left_out)
    expected = RepVGG(arch, deploy=deploy).state_dict()
    assert {key: value.shape for key, value in renamed.items()} == {key: value.shape for key, value in expected.items()}
