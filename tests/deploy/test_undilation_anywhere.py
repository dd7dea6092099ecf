"""Without dilated convolutions, networks of other packages compute what they did."""
import pytest
import torch
import torchvision
from helpers import assert_relatively_close, assert_same_state, randomize, snapshot
from mmengine.registry import MODELS, init_default_scope
from mmseg.utils import register_all_modules
from torch import Tensor, nn

from repvgg_seg.core.errors import UserError
from repvgg_seg.deploy import fuse, undilate
from repvgg_seg.models import RepVGG
from repvgg_seg.models.variants import ResidualRepVGG

DILATED = dict(type='ResNetV1c', depth=18, base_channels=8, num_stages=4, out_indices=(0, 1, 2, 3), dilations=(1, 1, 2, 4),
               strides=(1, 2, 1, 1), norm_cfg=dict(type='BN'), contract_dilation=True)
HEAD = dict(in_channels=64, in_index=3, channels=8, num_classes=5, norm_cfg=dict(type='BN'))


def by_mmseg(backbone: dict, head: dict) -> nn.Module:
    """A segmentor of MMSegmentation."""
    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    return MODELS.build(dict(type='EncoderDecoder', backbone=backbone, decode_head=dict(HEAD, **head)))


def by_torchvision(name: str) -> nn.Module:
    """A segmentor of torchvision."""
    return getattr(torchvision.models.segmentation, name)(weights=None, weights_backbone=None, num_classes=5)


def erfnet() -> nn.Module:
    """ERFNet, whose kernels of 3x1 and 1x3 are dilated along one axis."""
    return by_mmseg(dict(type='ERFNet', enc_downsample_channels=(8, 16, 32), enc_non_bottleneck_channels=(16, 32),
                         dec_upsample_channels=(16, 8), dec_non_bottleneck_channels=(16, 8)),
                    dict(type='FCNHead', in_channels=8, in_index=-1, num_convs=1))


class RegSegBlock(nn.Module):
    """Grouped convolutions of two dilations, of which the second is large; the stride divides it (arXiv:2111.09957)."""

    def __init__(self, stride: int, dilation: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(8, 8, 3, stride, 1, groups=2)
        self.far = nn.Conv2d(8, 8, 3, stride, dilation, dilation, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 8, H, W) -> (N, 16, ceil(H / stride), ceil(W / stride))."""
        return torch.cat([self.near(x), self.far(x)], dim=1)


NETWORKS = {
    'PSPNet': lambda: by_mmseg(DILATED, dict(type='PSPHead', pool_scales=(1, 2))),
    'DeepLabV3': lambda: by_mmseg(DILATED, dict(type='ASPPHead', dilations=(1, 12, 24, 36))),
    'DeepLabV3+': lambda: by_mmseg(DILATED, dict(type='DepthwiseSeparableASPPHead', dilations=(1, 12, 24, 36),
                                                c1_in_channels=8, c1_channels=4)),
    'DANet': lambda: by_mmseg(DILATED, dict(type='DAHead', pam_channels=4)),
    'FCN of many dilations': lambda: by_mmseg(dict(DILATED, multi_grid=(1, 2)), dict(type='FCNHead', dilation=6)),
    'PSPNet of stride 16': lambda: by_mmseg(dict(DILATED, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
                                                dict(type='PSPHead', pool_scales=(1, 3))),
    'ERFNet': erfnet,
    'torchvision LRASPP-MobileNetV3': lambda: by_torchvision('lraspp_mobilenet_v3_large'),
    'torchvision DeepLabV3-MobileNetV3': lambda: by_torchvision('deeplabv3_mobilenet_v3_large'),
    'torchvision FCN-ResNet-50': lambda: by_torchvision('fcn_resnet50'),
    'ResidualRepVGG': lambda: ResidualRepVGG(dict(num_blocks=(2, 2, 4, 1), width_factors=(0.25, 0.125, 0.125, 0.125)), 'full'),
}


@torch.no_grad()
def assert_same(model: nn.Module, x: Tensor) -> None:
    state = snapshot(model)
    plain = undilate(model)
    dilations = [{conv.dilation for conv in each.modules() if isinstance(conv, nn.Conv2d)} for each in (model, plain)]
    assert max(map(max, dilations[0])) > 1 and dilations[1] == {(1, 1)}
    assert_same_state(plain, state)
    actual, expected = (output['out'] if isinstance(output := each(x), dict) else output for each in (plain, model))
    assert_relatively_close(actual, expected, 1e-10)


@pytest.mark.parametrize('name', NETWORKS)
def test_networks_of_all_kinds(name):
    assert_same(fuse(randomize(NETWORKS[name]()).eval()).double(), torch.randn(1, 3, 65, 97, dtype=torch.float64))


@pytest.mark.parametrize('size', [(30, 41), (7, 9)], ids=str)
@pytest.mark.parametrize(('stride', 'dilation'), [(1, 14), (2, 4), (2, 10), (2, 3), (3, 2)])
def test_blocks_of_regseg(stride, dilation, size):
    assert_same(RegSegBlock(stride, dilation).double(), torch.randn(2, 8, *size, dtype=torch.float64))


@pytest.mark.parametrize(('kernel', 'dilation', 'stride'), [((3, 1), (5, 1), 1), ((1, 3), (1, 4), (1, 2)), ((5, 5), (2, 3), 1),
                                                           ((3, 3), (1, 2), 1)], ids=str)
def test_every_axis_by_itself(kernel, dilation, stride):
    padding = [d * (length // 2) for length, d in zip(kernel, dilation)]
    conv = nn.Conv2d(4, 6, kernel, stride, padding, dilation).double()
    assert_same(conv, torch.randn(2, 4, 13, 18, dtype=torch.float64))
    assert_same(nn.Sequential(conv, nn.ReLU()), torch.randn(2, 4, 13, 18, dtype=torch.float64))


@pytest.mark.parametrize(('model', 'message'), [
    (nn.Sequential(nn.Conv2d(3, 4, 3)), 'Sequential has no dilated convolution'),
    (nn.Sequential(nn.Conv2d(3, 4, 3, dilation=2, padding=1)),
     '0: only plain convolutions whose padding of zeros keeps the size (but for the stride) can be rewritten without dilation'),
    (nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3, dilation=2, padding=2, padding_mode='reflect')),
     '1: only plain convolutions whose padding of zeros keeps the size (but for the stride) can be rewritten without dilation'),
    (RepVGG(dict(num_blocks=(1, 1, 2, 1), width_factors=(0.25, 0.125, 0.125, 0.125)), 'full'),
     'the backbone is not fused; give undilate() what repvgg_seg.deploy.fuse() returns'),
], ids=['none', 'padding', 'reflect', 'training form'])
def test_what_cannot_be_rewritten(model, message):
    with pytest.raises(UserError) as error:
        undilate(model)
    assert str(error.value) == message
