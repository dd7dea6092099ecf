"""A backbone for other images than RGB starts from the weights of one for RGB."""
import pytest
import torch
from helpers import TINY_ARCH, randomize
from mmengine.logging import MMLogger
from torch import nn

from repvgg_seg.core.errors import CheckpointError
from repvgg_seg.models import RepVGG
from repvgg_seg.models.pretrained import load_beginning, load_model, load_pretrained


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """What is logged."""
    lines: list[str] = []
    monkeypatch.setattr(MMLogger, 'info', lambda logger, line, *_: lines.append(line))
    monkeypatch.setattr('repvgg_seg.models.inflation.print_log', lambda line, *_: lines.append(line))
    return lines


@pytest.mark.parametrize('channels', [1, 2, 4, 8])
def test_equal_channels_give_the_features_of_gray(save, said, channels):
    rgb, other = randomize(RepVGG(TINY_ARCH)).eval(), RepVGG(TINY_ARCH, in_channels=channels).eval()
    load_pretrained(other, path := save(rgb.state_dict()))
    gray = torch.rand(2, 1, 32, 48)
    torch.testing.assert_close(other(gray.expand(-1, channels, -1, -1)), rgb(gray.expand(-1, 3, -1, -1)))
    kernel = other.stem.conv.branch_3x3.conv.weight
    torch.testing.assert_close(kernel, (rgb.stem.conv.branch_3x3.conv.weight.sum(1, keepdim=True) / channels).expand_as(kernel))
    assert said[0] == (f'The stem of {path} is for 3 image channels, the backbone takes {channels}: each gets the mean of the '
                       f'kernels of red, green and blue, times 3 / {channels}')


def test_three_channels_stay_as_they_are(save, said):
    rgb, other = randomize(RepVGG(TINY_ARCH)), RepVGG(TINY_ARCH)
    load_pretrained(other, save(rgb.state_dict()))
    torch.testing.assert_close(other.state_dict(), rgb.state_dict(), rtol=0, atol=0)
    assert not [line for line in said if 'image channels' in line]


def test_weights_of_a_whole_model_for_further_training(said):
    rgb, other = (nn.ModuleDict(dict(backbone=RepVGG(TINY_ARCH, in_channels=channels))) for channels in (3, 5))
    load_beginning(other, dict(state_dict=rgb.state_dict()), 'rgb.pth')
    before, after = (model['backbone'].stem.conv.branch_1x1.conv.weight for model in (rgb, other))
    torch.testing.assert_close(after, (before.sum(1, keepdim=True) / 5).expand_as(after))


@pytest.mark.parametrize(('before', 'after'), [(4, 3), (4, 6), (1, 3)])
def test_weights_for_other_than_rgb_must_fit(save, before, after):
    with pytest.raises(CheckpointError, match=rf'stem.conv.branch_3x3.conv.weight \(16, {before}, 3, 3\) instead of '
                                              rf'\(16, {after}, 3, 3\)'):
        load_pretrained(RepVGG(TINY_ARCH, in_channels=after), save(RepVGG(TINY_ARCH, in_channels=before).state_dict()))


def test_a_trained_model_must_fit(save):
    """Only training starts from adapted weights; nothing else uses a model that it was not trained for."""
    with pytest.raises(CheckpointError, match='of another shape'):
        load_model(RepVGG(TINY_ARCH, in_channels=4), save(RepVGG(TINY_ARCH).state_dict()))
