"""Without dilated convolutions the backbone computes what it did, for every size."""
from dataclasses import asdict

import pytest
import torch
from helpers import TINY_ARCH, TINY_SE_ARCH, assert_relatively_close, assert_same_state, randomize, snapshot
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from tiny import ROOT
from torch import nn

from repvgg_seg.core.errors import UserError
from repvgg_seg.deploy import fuse, undilate
from repvgg_seg.deploy.fusing import fuse_for_inference
from repvgg_seg.deploy.undilation import Mosaic, undilate_backbones
from repvgg_seg.models import RepVGG
from repvgg_seg.models.archs import ARCHS
from repvgg_seg.models.variants import ResidualRepVGG

SIZES = [(65, 97), (90, 90), (45, 61), (7, 9)]
TOLERANCE = 1e-10  # In float64, relative to the largest output.


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


@torch.no_grad()
def assert_equal_without_dilation(model: RepVGG, size: tuple[int, int]) -> None:
    fused = fuse(randomize(model).double().eval())
    state, dilations = snapshot(fused), [conv.dilation for conv in convolutions(fused)]
    plain = undilate(fused)
    assert {conv.dilation for conv in convolutions(plain)} == {(1, 1)} and max(dilations) > (1, 1)
    assert [conv.dilation for conv in convolutions(fused)] == dilations, 'the model itself was changed'
    assert_same_state(plain, state)
    assert plain.out_channels == fused.out_channels
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    assert_relatively_close(plain(x), fused(x), TOLERANCE)


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('dilation', ['full', 'fast'])
@pytest.mark.parametrize('arch', ['A0', 'B1g2', 'D2se'])
def test_as_in_the_paper_at_a_quarter_of_the_width(arch, dilation, size):
    spec = asdict(ARCHS[arch])
    spec['width_factors'] = [factor / 4 for factor in spec['width_factors']]
    assert_equal_without_dilation(RepVGG(spec, dilation, out_indices=(2, 3)), size)


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize(('strides', 'dilations'), [
    ((2, 2, 1, 1), (1, 1, [1, 2, 2, 4, 4], 4)), ((2, 1, 1, 1), (2, 3, 4, 5)),
    ((2, 2, 2, 1), (1, 2, 2, 1)),  # Stride and dilation 2: only every second pixel is read.
    ((2, 2, 2, 2), (3, 1, [3, 1, 3, 3, 2], 4)),  # Stride 2 and dilation 3: all are.
], ids=str)
@pytest.mark.parametrize('arch', [dict(TINY_ARCH, num_blocks=(1, 2, 5, 1)), TINY_SE_ARCH], ids=['groups', 'se'])
def test_the_general_form(arch, strides, dilations, size):
    assert_equal_without_dilation(RepVGG(arch, None, (0, 1, 2, 3), strides=strides, dilations=dilations), size)


@pytest.mark.parametrize('dilation', [2, 3, 5])
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_the_mask_of_a_mosaic(size, dilation):
    mosaic = Mosaic(*size, dilation)
    pixels = mosaic.pixels(torch.zeros(1, 3, 1, 1, dtype=torch.bfloat16))
    torch.testing.assert_close(pixels, mosaic.lay(torch.ones(1, 1, *size, dtype=torch.bfloat16)), rtol=0, atol=0)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_every_dtype(dtype):
    fused = fuse(randomize(RepVGG(TINY_ARCH, 'full'))).to(dtype).eval()
    x = torch.randn(1, 3, 65, 97).to(dtype)
    output, = undilate(fused)(x)
    assert output.dtype == dtype
    assert_relatively_close(output.float(), fused(x)[0].float(), 1e-5 if dtype == torch.float32 else 0.05)


@torch.no_grad()
def test_a_segmentor():
    config = Config.fromfile(ROOT / 'configs/pspnet_repvgg_a0_camvid.py')
    init_default_scope('mmseg')
    fused = fuse_for_inference(randomize(MODELS.build(config.model)).double())
    plain = undilate(fused)
    assert {conv.dilation for conv in convolutions(plain)} == {(1, 1)} != {conv.dilation for conv in convolutions(fused)}
    x = torch.randn(1, 3, 65, 97, dtype=torch.float64)
    assert_relatively_close(plain(x), fused(x), TOLERANCE)


@pytest.mark.parametrize(('model', 'message'), [
    (RepVGG(TINY_ARCH, 'full'), r'not fused; give undilate\(\) what repvgg_seg.deploy.fuse\(\) returns'),
    (ResidualRepVGG(TINY_ARCH, 'full', deploy=True), 'ResidualRepVGG is not a plain stack of blocks'),
    (nn.Sequential(nn.Conv2d(3, 4, 3)), 'Sequential has no RepVGG backbone whose dilation could be removed')],
    ids=['training form', 'shortcuts', 'another'])
def test_what_cannot_be_rewritten(model, message):
    with pytest.raises(UserError, match=message):
        undilate_backbones(model)
