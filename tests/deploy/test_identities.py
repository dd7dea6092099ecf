"""The identity branch is split off exactly, in the blocks of every package that has RepVGG's."""
import pytest
import timm
import torch
from helpers import TINY_ARCH, assert_relatively_close, randomize
from mmpretrain.models.backbones import MobileOne
from mmpretrain.models.backbones import RepVGG as TheirRepVGG
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from timm.utils.model import reparameterize_model
from torch import nn

from repvgg_seg.core.errors import UserError
from repvgg_seg.deploy import fuse, split_identities
from repvgg_seg.deploy.identities import SplitIdentity
from repvgg_seg.models import RepVGG


def by_timm(kind: str, **settings) -> nn.Module:
    """A tiny network of timm."""
    blocks = tuple(ByoBlockCfg(type=kind, d=2, c=channels, s=2, gs=groups, br=1.0, block_kwargs=settings)
                   for channels, groups in ((16, 0), (16, 8)))
    return ByobNet(ByoModelCfg(blocks=blocks, stem_type=kind, stem_chs=16), num_classes=5)


def by_mobileone() -> nn.Module:
    """MMPretrain's MobileOne, whose 3x3 blocks are depthwise, followed by 1x1 blocks."""
    return MobileOne(dict(num_blocks=[1, 2, 1, 1], width_factor=[0.25, 0.25, 0.125, 0.0625], num_conv_branches=[2, 1, 1, 1],
                          num_se_blocks=[0, 0, 1, 1]))


NETWORKS = {
    'ours': lambda: RepVGG(TINY_ARCH, dilation='full'),
    'MMPretrain RepVGG': lambda: TheirRepVGG(dict(num_blocks=[1, 2, 2, 1], width_factor=[0.25, 0.25, 0.125, 0.0625],
                                                  group_layer_map={3: 2}, se_cfg=None)),
    'MMPretrain MobileOne': by_mobileone,
    'timm RepVGG': lambda: by_timm('rep'),
    'timm MobileOne': lambda: by_timm('one', num_conv_branches=2),
}


def fused_network(name: str) -> nn.Module:
    model = randomize(NETWORKS[name]()).double()
    model.eval()  # MMPretrain's returns None.
    return reparameterize_model(model) if name.startswith('timm') else fuse(model)


@pytest.mark.parametrize('name', NETWORKS)
def test_the_split_is_exact(name):
    fused = fused_network(name)
    split = split_identities(fused)
    splits = [module for module in split.modules() if isinstance(module, SplitIdentity)]
    assert len(splits) >= 2 and not any(isinstance(module, SplitIdentity) for module in fused.modules())
    for module in splits:
        rows, columns = (length // 2 for length in module.conv.kernel_size)
        outputs = torch.arange(module.conv.out_channels)
        assert not module.conv.weight[outputs, outputs % module.conv.weight.shape[1], rows, columns].any()
        assert module.scale.any()
    with torch.no_grad():
        x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
        assert_relatively_close(split(x), fused(x), 1e-10)


@pytest.mark.parametrize('name', NETWORKS)
def test_what_is_not_fused_is_refused(name):
    with pytest.raises(UserError) as error:
        split_identities(NETWORKS[name]())
    place, _, rest = str(error.value).partition(' ')
    assert place and rest == (
        "is not fused; fuse the model first, with repvgg_seg.deploy.fuse, switch_to_deploy() or timm's reparameterize_model, "
        'and give split_identities the result')


def test_a_model_without_such_blocks():
    model = timm.create_model('resnet10t')
    with pytest.raises(UserError) as error:
        split_identities(model)
    assert str(error.value) == (
        'ResNet has no fused RepVGG block whose identity could be split off; expected one of repvgg_seg, MMPretrain, timm, the '
        "official RepVGG or Apple's MobileOne")
    assert split_identities(model, required=False).state_dict().keys() == model.state_dict().keys()
