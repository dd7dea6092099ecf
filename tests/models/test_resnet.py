"""ResNet-50 with RepVGG blocks in the place of its 3x3 layers."""
import pytest
import torch
from helpers import assert_relatively_close, norms_of, randomize
from mmpretrain.models.backbones import ResNet
from torch import nn

from repvgg_seg.deploy import fuse
from repvgg_seg.models.blocks import RepConv
from repvgg_seg.models.variants.resnet import ResNetRepVGG

NARROW = dict(stem_channels=8, base_channels=4)


def block_of(model, stage=2, index=1):
    return getattr(model, f'layer{stage}')[index]


@pytest.mark.parametrize('style', ['caffe', 'pytorch'])
def test_every_3x3_layer_is_a_repvgg_block(style):
    model, peer = (kind(50, style=style, dilations=(1, 1, 2, 4), **NARROW) for kind in (ResNetRepVGG, ResNet))
    found = {name: module for name, module in model.named_modules() if isinstance(module, RepConv)}
    wanted = {name: module for name, module in peer.named_modules() if getattr(module, 'kernel_size', None) == (3, 3)
              and isinstance(module, nn.Conv2d)}
    assert list(found) == list(wanted) and len(found) == 16
    for name, conv in wanted.items():
        part = found[name]
        assert (part.in_channels, part.out_channels) == (conv.in_channels, conv.out_channels)
        assert ((part.stride, ) * 2, (part.dilation, ) * 2) == (conv.stride, conv.dilation)
    # Strides in the first 1x1 convolutions leave an identity branch in every block.
    assert [part.branch_identity is None for part in found.values()].count(True) == (0 if style == 'caffe' else 3)
    added = sum(part.in_channels * part.out_channels + (2 if part.branch_identity is None else 4) * part.out_channels
                for part in found.values())
    counts = [sum(parameter.numel() for parameter in each.parameters()) for each in (model, peer)]
    assert counts[0] - counts[1] == added


@torch.no_grad()
def test_bottleneck_computes_what_it_should():
    block = block_of(randomize(ResNetRepVGG(**NARROW)).double().eval())
    x = torch.randn(1, 32, 5, 7).double()
    y = block.norm1(block.conv1(x)).relu()
    y = block.norm3(block.conv3(block.conv2(y).relu()))
    torch.testing.assert_close(block(x), (x + y).relu(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('how', [fuse, ResNetRepVGG.switch_to_deploy])
@torch.no_grad()
def test_fused_equals_unfused(how):
    model = randomize(ResNetRepVGG(dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1), **NARROW)).double().eval()
    x = torch.randn(1, 3, 65, 65).double()
    expected = model(x)
    fused = how(model)
    assert not norms_of(fused)
    assert_relatively_close(fused(x), expected, 1e-10)
    built = ResNetRepVGG(deploy=True, dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1), **NARROW).double().eval()
    built.load_state_dict(fused.state_dict(), strict=True)
    torch.testing.assert_close(built(x), fused(x), rtol=0, atol=0)
    torch.testing.assert_close(fused.switch_to_deploy()(x), built(x), rtol=0, atol=0)


def test_gradient_reaches_every_parameter():
    model = randomize(ResNetRepVGG(**NARROW)).double()
    assert model.train() is model and model.eval() is model
    model.train()(torch.randn(2, 3, 65, 65).double())[0].square().sum().backward()
    assert [key for key, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0] == []
