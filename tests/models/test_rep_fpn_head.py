"""RepFPNHead: its pyramid, its fused form, and what undilation does to it."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from exports import skip_without
from helpers import TINY_ARCH, assert_relatively_close, norms_of, randomize
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from repvgg_seg.core.errors import UserError
from repvgg_seg.deploy import fuse, undilate
from repvgg_seg.deploy.ncnn_program import convert
from repvgg_seg.models import RepFPNHead
from repvgg_seg.models.rep_fpn_head import PooledContext

EXACT = 1e-10  # Relative to the largest output, in float64.
DIVISORS = 'feature_strides must be one for each of in_index (3), each a divisor of the next'
NEEDED = 'RepFPNHead needs in_channels for each of in_index, and fusion_channels for all but one'
WIDTHS = [24, 32, 48]  # Of TINY_ARCH's stages 3 to 5.


def make_head(**arguments) -> RepFPNHead:
    arguments = dict(norm_cfg=dict(type='BN'), align_corners=False) | arguments
    return randomize(RepFPNHead(**dict(in_channels=WIDTHS, context_channels=16, fusion_channels=(12, 8), block_channels=(10, ),
                                       channels=8, num_classes=5) | arguments)).double().eval()


def features(height: int = 10, width: int = 14) -> list[torch.Tensor]:
    """Three maps, each half as large as the one before, rounded up."""
    sizes = [(height, width), (-(-height // 2), -(-width // 2)), (-(-height // 4), -(-width // 4))]
    return [torch.randn(2, channels, *size).double() for channels, size in zip(WIDTHS, sizes)]


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('size', [(16, 32), (5, 3), (1, 1)], ids=str)
@pytest.mark.parametrize('scales', [(1, 2, 3, 6), (1, ), (4, )], ids=str)
def test_context_is_pooling_and_resizing(scales, size, align_corners):
    context, x = PooledContext(4, scales, align_corners).double(), torch.randn(2, 4, *size).double()
    expected = x + sum(F.interpolate(torch.relu(conv(F.adaptive_avg_pool2d(x, scale))), size, mode='bilinear',
                                     align_corners=align_corners) for scale, conv in zip(scales, context.convs))
    assert_relatively_close(context(x), expected, EXACT)


@pytest.mark.parametrize('size', [(2, 3), (6, 6)], ids=str)
def test_context_in_ncnn(size, tmp_path):
    skip_without('ncnn', 'pnnx')
    import ncnn
    context, x = PooledContext(8, (1, 2, 6), False).eval(), torch.randn(1, 8, *size)
    convert(context, (8, *size)).save(tmp_path / 'context.param')
    net = ncnn.Net()
    net.load_param(str(tmp_path / 'context.param'))
    net.load_model(str(tmp_path / 'context.bin'))
    extractor = net.create_extractor()
    extractor.input('images', ncnn.Mat(x[0].numpy()))
    output = torch.from_numpy(np.array(extractor.extract('logits')[1]))
    assert_relatively_close(output, context(x)[0].detach(), 1e-2)  # In 16 bits, where the CPU has them.


@pytest.mark.parametrize('size', [(10, 14), (9, 13)], ids=str)
@pytest.mark.parametrize('align_corners', [False, True])
def test_fused_equals_trained(align_corners, size):
    head, maps = make_head(align_corners=align_corners), features(*size)
    fused = fuse(head)
    assert norms_of(head) and not norms_of(fused)
    output = fused(maps)
    assert output.shape == (2, 5, *size)
    assert_relatively_close(output, head(maps), EXACT)


def test_a_corner_does_not_depend_on_where_the_image_ends():
    head, maps = make_head(pool_scales=()), features(20, 20)
    cut = [whole[:, :, :size, :size] for whole, size in zip(maps, (17, 9, 5))]
    assert_relatively_close(head(cut)[:, :, :4, :4], head(maps)[:, :, :4, :4], EXACT)


@pytest.mark.parametrize(('strides', 'message'), [
    ((8, 16, 16), 'feature maps of 5x7 and 3x4 do not have strides of the ratio 1'),
    ((8, 8, 16), 'feature maps of 10x14 and 5x7 do not have strides of the ratio 1'),
    ((8, 16, 64), 'feature maps of 5x7 and 3x4 do not have strides of the ratio 4')], ids=str)
def test_wrong_strides(strides, message):
    with pytest.raises(UserError) as caught:
        make_head(feature_strides=strides)(features())
    assert str(caught.value) == f'RepFPNHead: {message}; check in_index and feature_strides'


def test_fused_state_strictly_loads_into_the_fused_form():
    fused, built = fuse(make_head()), make_head(norm_cfg=None)
    assert list(built.state_dict()) == list(fused.state_dict())
    built.load_state_dict(fused.state_dict(), strict=True)
    maps = features()
    torch.testing.assert_close(built(maps), fused(maps), rtol=0, atol=0)


def test_fused_head_is_3x3_and_1x1_convolutions_only():
    kinds = {type(module) for module in fuse(make_head()).modules() if not list(module.children())}
    assert kinds <= {nn.Conv2d, nn.ReLU, nn.Identity, nn.Dropout2d} | {type(make_head().loss_decode)}


def test_undilation_leaves_the_head():
    config = dict(
        type='EncoderDecoder',
        backbone=dict(type='repvgg_seg.RepVGG', arch=TINY_ARCH, dilation='full', out_indices=(1, 2, 3)),
        decode_head=dict(type='repvgg_seg.RepFPNHead', in_channels=WIDTHS, feature_strides=(8, 8, 8), context_channels=16,
                         fusion_channels=(12, 8), channels=8, num_classes=5, norm_cfg=dict(type='BN'), align_corners=False),
        test_cfg=dict(mode='whole'))
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = randomize(MODELS.build(config)).double().eval()
    images = torch.randn(1, 3, 70, 99).double()
    fused = fuse(model)
    undilated = undilate(fused)
    assert list(undilated.state_dict()) == list(fused.state_dict())
    for other in (fused, undilated):
        assert_relatively_close(other(images), model(images), EXACT)


@pytest.mark.parametrize(('arguments', 'message'), [
    (dict(in_channels=[24, 32]), f'{NEEDED}; got 2, 3 and 2 of them'),
    (dict(fusion_channels=(12, )), f'{NEEDED}; got 3, 3 and 1 of them'),
    (dict(pool_scales=(1, 0)), 'pool_scales must be positive integers, got (1, 0)'),
    (dict(context_channels=1.5), 'context_channels must be positive integers, got [1.5]'),
    (dict(feature_strides=(8, 16)), f'{DIVISORS}; got (8, 16)'),
    (dict(feature_strides=(8, 16, 24)), f'{DIVISORS}; got (8, 16, 24)'),
    (dict(block_channels=8), 'block_channels must be positive integers, got 8'),
], ids=str)
def test_wrong_argument(arguments, message):
    with pytest.raises(UserError) as caught:
        make_head(**arguments)
    assert str(caught.value) == message
