"""What is kept out of 8 bits, and how layers are found that must be."""
import re

import numpy as np
import pytest
import torch
from helpers import TINY_ARCH, TINY_SE_ARCH, assert_relatively_close, randomize
from torch import nn

from repvgg_seg.deploy.artefacts import Artefact
from repvgg_seg.deploy.exporting import Checker, write_quantized
from repvgg_seg.deploy.fusing import fuse
from repvgg_seg.deploy.quantization import (
    Layer,
    Quantizer,
    SplitIdentity,
    layer_errors,
    round_input,
    round_weight,
    split_identities,
)
from repvgg_seg.errors import UserError
from repvgg_seg.models import RepVGG


@pytest.mark.parametrize('dilation', [1, 4])
@pytest.mark.parametrize('groups', [1, 4])
def test_the_split_is_exact(groups, dilation):
    conv = nn.Conv2d(16, 16, 3, padding=dilation, dilation=dilation, groups=groups).double()
    split = SplitIdentity(conv)
    x = torch.randn(2, 16, 9, 11, dtype=torch.float64)
    assert_relatively_close(split(x), conv(x), 1e-12)
    # Each output channel has lost one weight: that of itself.
    changed = (split.conv.weight != conv.weight).nonzero()
    assert changed.tolist() == [[output, output % (16 // groups), 1, 1] for output in range(16)]
    assert (split.conv.weight[tuple(changed.T)] == 0).all()


@pytest.mark.parametrize('arch', [TINY_ARCH, TINY_SE_ARCH], ids=['groups', 'se'])
def test_blocks_that_had_an_identity_are_split(arch):
    trained = randomize(RepVGG(arch, dilation='full')).eval().double()
    fused = fuse(trained)
    split = split_identities(fused)
    had = [name for name, module in trained.named_modules() if getattr(module, 'branch_identity', None) is not None]
    assert had and [name for name, module in split.named_modules() if isinstance(module, SplitIdentity)] == had
    assert not any(isinstance(module, SplitIdentity) for module in fused.modules())
    x = torch.randn(1, 3, 65, 41, dtype=torch.float64)
    assert_relatively_close(split(x), trained(x), 1e-10)


def test_rounding_of_inputs():
    x = torch.cat([torch.zeros(1), torch.linspace(-1, 3, 1000)])
    rounded = round_input(x)
    step = 4 / 255
    assert len(rounded.unique()) == 256 and rounded[0] == 0
    assert (rounded - x).abs().max() <= step / 2 + 1e-6
    torch.testing.assert_close(round_input(torch.zeros(3)), torch.zeros(3))


def test_rounding_of_weights_is_by_channel():
    weight = torch.randn(3, 40, 3, 3) * torch.tensor([0.01, 1, 100]).view(3, 1, 1, 1)
    weight[0] = 0
    rounded = round_weight(weight)
    for one, other in zip(rounded, weight):
        assert len(one.unique()) <= 255
        assert (one - other).abs().max() <= other.abs().max() / 254 * 1.001


class Chain(nn.Module):
    """Two convolutions by themselves and one, with the slice of a weight, as a head has it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(channels, 8, 3, padding=1) for channels in (3, 8, 12))

    def forward(self, images):
        x = torch.relu(self.second(torch.relu(self.first(images.permute(0, 3, 1, 2) / 255))))
        return torch.conv2d(x, self.third.weight[:, :8], self.third.bias, padding=1)


def pictures(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 20, 24, 3), np.uint8))


def test_a_large_diagonal_costs_the_other_weights_their_steps():
    model = Chain()
    plain = layer_errors(model, pictures(2))
    assert [layer.name for layer in plain] == ['first', 'second', 'third']
    with torch.no_grad():
        model.second.weight[range(8), range(8), 1, 1] = 10
        model.second.weight[:, :, 0] -= 0.5  # Otherwise the diagonal alone decides the output.
    bad = layer_errors(model, pictures(2))[1]
    model.second = SplitIdentity(model.second)
    split = layer_errors(model, pictures(2))[1]
    assert split.name == 'second.conv' and split.decibels > bad.decibels + 3
    assert plain[0].decibels > 30


def test_order_is_the_first_layer_then_from_the_worst():
    quantizer = Quantizer(None, [])
    quantizer.layers = [Layer('stem', 50), Layer('good', 40), Layer('bad', 10), Layer('middling', 20)]
    assert quantizer.order == [0, 2, 3, 1]


class StubChecker(Checker):
    """Measures what ``measured`` says for a number of kept layers."""

    def __init__(self, miou_of) -> None:
        self.miou, self.miou_of, self.tried = 60.0, miou_of, []

    def measure(self, write, format_name, precision, path):
        self.tried.append(write.keywords['kept'])
        return Artefact(format_name, precision, None, 'labels', 0.01, 0.001, self.miou_of(self.tried[-1]), False, [],
                        1, 1, '')


@pytest.fixture
def quantizer():
    quantizer = Quantizer(None, [])
    quantizer.layers = [Layer(f'layer{index}', 40 - index) for index in range(20)]
    return quantizer


@pytest.mark.parametrize(('enough', 'tried'), [(1, [1]), (4, [1, 2, 4]), (5, [1, 2, 4, 8])])
def test_layers_are_kept_until_the_loss_is_small(quantizer, tmp_path, enough, tried):
    checker = StubChecker(lambda kept: 59.6 if kept >= enough else 59.4)
    artefact = write_quantized(quantizer, checker, 'openvino', tmp_path / 'model.int8.xml')
    assert checker.tried == tried
    assert artefact.higher_precision == ['layer0', *(f'layer{index}' for index in range(19, 20 - tried[-1], -1))]


def test_a_loss_that_stays_is_refused(quantizer, tmp_path):
    checker = StubChecker(lambda kept: 50)
    message = r'model.int8.xml differs from the trained model, with 8 layers in higher precision: mIoU 60.00 to 50.00 \(limit'
    with pytest.raises(UserError, match=message):
        write_quantized(quantizer, checker, 'openvino', tmp_path / 'model.int8.xml')


@pytest.mark.parametrize(('values', 'message'), [
    (dict(logit_difference=float('nan')), 'logits by nan of the largest'), (dict(logit_difference=0.6), r'logits by 6.0e-01'),
    (dict(changed=0.06), r'6.000% of the pixels \(limit 5.0%\)'), (dict(miou=59.4), 'mIoU 60.00 to 59.40'),
    (dict(miou=float('nan')), 'mIoU 60.00 to nan'), (dict(miou=None), None), (dict(miou=61), None)])
def test_limits(values, message):
    checker = StubChecker(None)
    good = dict(format='onnx', precision='int8', size=None, output='labels', logit_difference=0.1, changed=0.01, miou=60,
                undilated=False, higher_precision=[], bytes=1, sha256='')
    artefact = Artefact(**{**good, **values})
    if message is None:
        assert checker.excess(artefact) == ''
    else:
        assert re.search(message, checker.excess(artefact))
