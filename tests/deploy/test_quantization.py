"""What is kept out of 8 bits, and how layers are found that must be."""
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from exports import skip_without
from helpers import TINY_ARCH, TINY_SE_ARCH, assert_relatively_close, randomize
from torch import nn

from repvgg_seg.core.errors import UserError
from repvgg_seg.core.tasks import SEGMENTATION
from repvgg_seg.deploy.artifacts import Artifact
from repvgg_seg.deploy.exporting import Checker, write_quantized
from repvgg_seg.deploy.fusing import fuse
from repvgg_seg.deploy.identities import SplitIdentity, split_identities
from repvgg_seg.deploy.quantization import (
    Layer,
    Quantizer,
    layer_errors,
    quantize_onnx,
    quantize_openvino,
    round_input,
    round_weight,
)
from repvgg_seg.deploy.tasks import TASKS
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


def batches(count: int) -> list[np.ndarray]:
    """The same, as batches of one image."""
    return [image[None] for image in pictures(count)]


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


class ComputedWeight(nn.Module):
    """A convolution by keyword arguments, with a weight that is not a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, images):
        x = images.permute(0, 3, 1, 2) / 255
        return torch.conv2d(x, weight=self.conv.weight - self.conv.weight.mean(), bias=self.conv.bias, padding=1)


def test_a_weight_that_is_computed_has_no_name():
    layer, = layer_errors(ComputedWeight(), pictures(2))
    assert layer.name == 'convolution 0, of a computed weight' and 20 < layer.decibels < 70


class Export(NamedTuple):
    """An ONNX file of a model, and its convolutions."""
    path: Path
    convolutions: list


@pytest.fixture(scope='module')
def original(tmp_path_factory) -> Export:
    """Of four convolutions: with and without a bias, with groups, and with the slice of a weight."""
    skip_without('onnxscript', 'onnxruntime', 'openvino', 'nncf')
    model = Chain().eval()
    model.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.Conv2d(8, 8, 3, padding=1, groups=2))
    example = torch.from_numpy(np.stack(pictures(2)))
    program = torch.onnx.export(model, (example, ), dynamo=True, opset_version=18, verbose=False, input_names=['images'],
                                dynamic_shapes=({0: torch.export.Dim.DYNAMIC}, ))
    path = tmp_path_factory.mktemp('export') / 'source.onnx'
    program.save(path)
    convolutions = [node for node in program.model.graph if node.op_type == 'Conv']
    assert len(convolutions) == 4
    return Export(path, convolutions)


@pytest.fixture
def export(original, tmp_path) -> Export:
    """A copy of the file, which may be changed."""
    return original._replace(path=Path(shutil.copy(original.path, tmp_path)))


@pytest.mark.parametrize('excluded', [[], [0, 2], [1, 3]], ids=str)
def test_exactly_what_is_excluded_stays_out_of_8_bits_in_openvino(export, tmp_path, excluded):
    import openvino
    program = quantize_openvino(export.path, batches(4), [export.convolutions[index] for index in excluded])
    program.save(tmp_path / 'int8.xml')
    model = openvino.Core().read_model(tmp_path / 'int8.xml')
    convolutions = [operation for operation in model.get_ordered_ops() if 'Convolution' in operation.get_type_name()]
    assert len(convolutions) == 4
    # What is in 8 bits reads a FakeQuantize.
    plain = [index for index, operation in enumerate(convolutions)
             if operation.input_value(0).get_node().get_type_name() != 'FakeQuantize']
    assert plain == excluded


@pytest.mark.parametrize('excluded', [[], [0, 2], [1, 3]], ids=str)
def test_exactly_what_is_excluded_stays_out_of_8_bits_in_onnx_runtime(export, excluded):
    graph = quantize_onnx(export.path, batches(4), [export.convolutions[index] for index in excluded]).model.graph
    dequantized = {output for node in graph.node if node.op_type == 'DequantizeLinear' for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == 'Conv']
    assert len(convolutions) == 4
    assert [index for index, node in enumerate(convolutions) if node.input[1] not in dequantized] == excluded


@pytest.mark.parametrize(('quantize', 'message'), [
    (quantize_openvino, "OpenVINO's model has no convolution that computes other, so node_other would be in 8 bits"),
    (quantize_onnx, 'ONNX Runtime has no convolution node_other any more, which would be in 8 bits')])
@pytest.mark.situation('Silently wrong', 'a runtime renames a layer kept out of 8 bits', before='it was in 8 bits',
                       now='refused')
def test_a_layer_that_is_not_found_is_not_quantized_in_silence(export, quantize, message):
    node = SimpleNamespace(name='node_other', outputs=[SimpleNamespace(name='other')])
    with pytest.raises(RuntimeError) as raised:
        quantize(export.path, batches(4), [node])
    assert str(raised.value) == message


def test_order_is_the_first_layer_then_from_the_worst():
    quantizer = Quantizer(None, [])
    quantizer.layers = [Layer('stem', 50), Layer('good', 40), Layer('bad', 10), Layer('middling', 20)]
    assert quantizer.order == [0, 2, 3, 1]


class StubQuantizer(Quantizer):
    """Makes of a number of excluded layers a program that is this number."""

    def quantize(self, quantize, excluded, folder):
        return excluded


class StubChecker(Checker):
    """Finds the mIoU that ``miou_of`` says for a number of excluded layers."""

    def __init__(self, miou_of) -> None:
        self.plan, self.evaluation = SimpleNamespace(task=TASKS[SEGMENTATION]), SimpleNamespace(reference=60.0)
        self.miou_of, self.tried = miou_of, []

    def write(self, program, format_name, precision, path):
        self.tried.append(program)
        return Artifact(format_name, precision, None, 'labels', 0.01, 0.001, self.miou_of(program), False, [], 1, '')


@pytest.fixture
def quantizer():
    quantizer = StubQuantizer(None, [])
    quantizer.layers = [Layer(f'layer{index}', 40 - index) for index in range(20)]
    return quantizer


@pytest.mark.parametrize(('enough', 'tried'), [(1, [1]), (4, [1, 2, 4]), (5, [1, 2, 4, 8])])
def test_layers_are_excluded_until_the_loss_is_small(quantizer, tmp_path, enough, tried):
    checker = StubChecker(lambda excluded: 59.6 if excluded >= enough else 59.4)
    artifact = write_quantized(quantizer, checker, 'openvino', tmp_path / 'model.int8.xml')
    assert checker.tried == tried
    assert artifact.higher_precision == ['layer0', *(f'layer{index}' for index in range(19, 20 - tried[-1], -1))]


def test_a_loss_that_stays_is_refused(quantizer, tmp_path):
    checker = StubChecker(lambda excluded: 50)
    message = r'model.int8.xml differs from the trained model, with 8 layers in higher precision: mIoU 60.00 to 50.00 \(limit'
    with pytest.raises(UserError, match=message):
        write_quantized(quantizer, checker, 'openvino', tmp_path / 'model.int8.xml')


@pytest.mark.parametrize(('values', 'message'), [
    (dict(logit_difference=float('nan')), 'logits by nan of the largest'), (dict(logit_difference=0.6), r'logits by 6.0e-01'),
    (dict(changed=0.06), r'6.000% of the pixels \(limit 5.0%\)'), (dict(miou=59.4), 'mIoU 60.00 to 59.40'),
    (dict(miou=float('nan')), 'mIoU 60.00 to nan'), (dict(miou=61), None)])
def test_limits(values, message):
    checker = StubChecker(None)
    good = dict(format='onnx', precision='int8', size=None, output='labels', logit_difference=0.1, changed=0.01, miou=60,
                undilated=False, higher_precision=[], bytes=1, sha256='')
    artifact = Artifact(**{**good, **values})
    if message is None:
        assert checker.excess(artifact) == ''
    else:
        assert re.search(message, checker.excess(artifact))


def test_without_an_evaluation_there_is_no_limit_for_the_metric():
    checker = StubChecker(None)
    checker.evaluation = None
    assert checker.excess(Artifact('onnx', 'int8', None, 'labels', 0.1, 0.01, None, False, [], 1, '')) == ''
