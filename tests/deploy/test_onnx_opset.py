"""ONNX models in every opset that --opset takes give the results of the default."""
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from exports import skip_without
from torch import Tensor, nn
from torch.export import Dim

from repvgg_seg.core.errors import UserError
from repvgg_seg.deploy.comparison import Decision
from repvgg_seg.deploy.graph import OPSET
from repvgg_seg.deploy.onnx_opset import OPSETS, in_opset
from repvgg_seg.deploy.programs import OnnxProgram
from repvgg_seg.deploy.quantization import quantize_onnx
from repvgg_seg.runtime.predictor import load_file

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 12, 8, 3), np.uint8)
CONFIDENCES = (0.3, 0.25, 0.4)
skip_without('onnx', 'onnxscript', 'onnxruntime')


class Network(nn.Module):
    """Has all that exports have of what changed between opsets: splitting, padding, reshaping, means, resizing."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = images.float().permute(0, 3, 1, 2) / 64
        x = self.first(torch.cat(x.split(1, dim=1)[::-1], dim=1)).relu()
        x = F.pad(x, (0, 2, 0, 2))
        x = x * x.mean((2, 3), keepdim=True) + x.amax(1, keepdim=True)
        x = x.view(x.shape[0], x.shape[1], -1).transpose(1, 2).reshape(x.shape[0], x.shape[2], x.shape[3], -1)
        x = self.second(x.permute(0, 3, 1, 2))
        return F.interpolate(x, size=images.shape[1:3], mode='bilinear', align_corners=False)


@cache
def exported(opened: bool = True):
    axes = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC, 2: Dim.DYNAMIC} if opened else {}
    with torch.no_grad():
        program = torch.export.export(Network().eval(), (torch.from_numpy(IMAGES), ), dynamic_shapes=(axes, ))
    return torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False, input_names=['images'],
                             output_names=['logits']).model_proto


def outputs_of(program, path) -> np.ndarray:
    program.save(path)
    return load_file(path, 'fp32')(IMAGES)


@pytest.mark.parametrize('opset', OPSETS)
@pytest.mark.parametrize('opened', [True, False], ids=['any size', 'fixed size'])
def test_results_are_those_of_the_default(opset, opened, tmp_path):
    model = exported(opened)
    expected, converted = OnnxProgram(model), OnnxProgram(in_opset(model, opset))
    assert [each.version for each in converted.model.opset_import if not each.domain] == [opset]
    assert (converted.model is model) == (opset == OPSET)
    np.testing.assert_array_equal(*(outputs_of(each, tmp_path / 'logits.onnx') for each in (converted, expected)))
    for decision in (Decision(None, 'uint8'), Decision(None, 'uint8', CONFIDENCES)):
        found, labels = (outputs_of(each.with_labels(decision), tmp_path / 'labels.onnx') for each in (converted, expected))
        assert len(np.unique(labels)) > 1, 'labels of one class show nothing'
        np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize('opset', [OPSETS[0], OPSETS[-1]])
def test_8_bits(opset, tmp_path):
    found = []
    for each in (opset, OPSET):
        OnnxProgram(in_opset(exported(), each)).save(tmp_path / 'source.onnx')
        program = quantize_onnx(tmp_path / 'source.onnx', list(IMAGES[:, None]), [])
        assert {node.op_type for node in program.model.graph.node} >= {'QuantizeLinear', 'DequantizeLinear'}
        assert [imported.version for imported in program.model.opset_import if not imported.domain] == [each]
        found.append(outputs_of(program, tmp_path / 'logits.onnx'))
    np.testing.assert_allclose(*found, atol=1e-4 * np.abs(found[1]).max())


def test_what_an_opset_lacks_is_refused():
    from onnx import TensorProto, helper
    norm = helper.make_node('LayerNormalization', ['images', 'scale'], ['logits'], 'norm')
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
              for name, shape in (('images', (2, 3)), ('scale', (3, )), ('logits', (2, 3)))]
    model = helper.make_model(helper.make_graph([norm], 'graph', values[:2], values[2:]),
                              opset_imports=[helper.make_opsetid('', OPSET)])
    assert in_opset(model, 17).opset_import[0].version == 17
    with pytest.raises(UserError) as raised:
        in_opset(model, 16)
    message = str(raised.value)
    assert message.startswith('the model cannot be written in opset 16 (No Op registered for LayerNormalization with '
                              'domain_version of 16')
    assert message.endswith('); leave --opset out for 18') and '\n' not in message
