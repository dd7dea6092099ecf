"""Labels are the argmax of the very network that gives the logits, in every format."""
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import skip_without
from torch import Tensor, nn
from torch.export import Dim

from repvgg_seg.deploy.comparison import Decision
from repvgg_seg.deploy.core_ml_reference import load_reference
from repvgg_seg.deploy.formats.coreml import CoreMlProgram
from repvgg_seg.deploy.formats.executorch import ExecuTorchProgram
from repvgg_seg.deploy.formats.litert import LiteRtProgram
from repvgg_seg.deploy.graph import FloatPixels
from repvgg_seg.deploy.ncnn_program import convert
from repvgg_seg.deploy.programs import OnnxProgram, OpenVinoProgram, Program, TorchProgram
from repvgg_seg.deploy.quantization import quantize_onnx, quantize_openvino
from repvgg_seg.runtime.predictor import load_file

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 10, 12, 3), np.uint8)
# Two of them would be equal in 16 bits; one class is never answered.
CONFIDENCES = tuple(round(value * 2**24) / 2**24 for value in (0.5, 0.9999, 0.99995, 2, 0.8))
PACKAGES = {'.pt2': (), '.onnx': ('onnx', 'onnxscript', 'onnxruntime'), '.xml': ('onnxscript', 'openvino'),
            '.ncnn.param': ('ncnn', 'pnnx'), '.opencv.onnx': ('onnx', 'onnxscript', 'cv2'),
            '.tflite': ('litert_torch', 'ai_edge_litert'), '.pte': ('executorch', ), '.mlpackage': ('coremltools', )}
SLOW = ('.tflite', '.pte')
ONE_SIZE = ('.ncnn.param', '.opencv.onnx', '.tflite', '.pte', '.mlpackage')  # Files for single images of the size of IMAGES.


class Logits(nn.Module):
    """Images uint8 (N, H, W, 3) -> logits: of each pixel, or of the image."""

    def __init__(self, channels: int, pooled: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.pooled = nn.Conv2d(3, channels, 3, padding=1), pooled
        self.register_buffer('mean', torch.tensor([120., 128., 130.]).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(images.permute(0, 3, 1, 2).float())

    def logits(self, pixels: Tensor) -> Tensor:
        logits = self.conv(pixels - self.mean)
        return logits.mean((2, 3)) if self.pooled else logits


@cache
def exported(channels: int, pooled: bool) -> torch.export.ExportedProgram:
    """A program for any number of images of any size."""
    model = Logits(channels, pooled).eval()
    with torch.no_grad():
        return torch.export.export(model, (torch.from_numpy(IMAGES), ), dynamic_shapes=({0: Dim.DYNAMIC, 1: Dim.DYNAMIC,
                                                                                       2: Dim.DYNAMIC}, ))


def for_one_size(channels: int, pooled: bool) -> torch.export.ExportedProgram:
    """A program for single images of one size."""
    return torch.export.export(Logits(channels, pooled).eval(), (torch.from_numpy(IMAGES[:1]), ))


def of_float_pixels(channels: int, pooled: bool) -> torch.export.ExportedProgram:
    """The same of float32 pixels (1, 3, H, W)."""
    pixels = torch.from_numpy(IMAGES[:1]).permute(0, 3, 1, 2).float().contiguous()
    return torch.export.export(FloatPixels(Logits(channels, pooled)).eval(), (pixels, ))


@cache
def in_onnx(channels: int, pooled: bool, fixed: bool = False) -> torch.onnx.ONNXProgram:
    """The same in ONNX, or a program for single images of one size."""
    program = for_one_size(channels, pooled) if fixed else exported(channels, pooled)
    return torch.onnx.export(program, dynamo=True, opset_version=18, verbose=False, input_names=['images'],
                             output_names=['logits'])


def openvino_program(channels: int, pooled: bool, folder: Path) -> OpenVinoProgram:
    import openvino
    in_onnx(channels, pooled).save(folder / 'source.onnx')
    return OpenVinoProgram(openvino.convert_model(folder / 'source.onnx'), half=False)


PROGRAMS: dict[str, Callable[[int, bool, Path], Program]] = {
    '.pt2': lambda channels, pooled, folder: TorchProgram(exported(channels, pooled)),
    '.onnx': lambda channels, pooled, folder: OnnxProgram(in_onnx(channels, pooled).model_proto),
    '.xml': openvino_program,
    '.opencv.onnx': lambda channels, pooled, folder: OnnxProgram(in_onnx(channels, pooled, fixed=True).model_proto),
    '.tflite': lambda channels, pooled, folder: LiteRtProgram(for_one_size(channels, pooled)),
    '.pte': lambda channels, pooled, folder: ExecuTorchProgram(for_one_size(channels, pooled)),
    '.ncnn.param': lambda channels, pooled, folder: convert(FloatPixels(Logits(channels, pooled)), (3, *IMAGES.shape[1:3])),
    '.mlpackage': lambda channels, pooled, folder: CoreMlProgram(of_float_pixels(channels, pooled), 'fp32'),
}


def check(program: Program, decision: Decision, suffix: str, images: np.ndarray, folder: Path) -> None:
    """Labels of a program are the decision on its logits, and the program still gives logits after that."""
    labeled = program.with_labels(decision)
    for name, each in dict(labels=labeled, logits=program).items():
        each.save(folder / f'{name}{suffix}')
    load = load_reference if suffix == '.mlpackage' else partial(load_file, precision='fp32')
    logits, labels = (load(folder / f'{name}{suffix}')(images) for name in ('logits', 'labels'))
    expected = decision.labels_of(torch.from_numpy(logits)).numpy()
    assert logits.dtype == np.float32 and len(np.unique(expected)) > 1, 'labels of one class show nothing'
    if decision.confidences:
        assert 0.1 < (expected == 255).mean() < 0.9 and set(np.unique(expected)) <= {0, 1, 2, 4, 255}
    assert (labels.dtype, labels.shape) == (np.int32 if suffix == '.mlpackage' else expected.dtype, expected.shape)
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize(('channels', 'pooled', 'decision'), [
    (5, False, Decision(None, 'uint8')), (5, False, Decision(None, 'uint8', CONFIDENCES)),
    (1, False, Decision(0.4, 'uint8')), (300, True, Decision(None, 'int64'))],
    ids=['segmentor', 'unknown pixels', 'one channel', 'classifier'])
@pytest.mark.parametrize('suffix', [*(suffix for suffix in PROGRAMS if suffix not in SLOW), *(
    pytest.param(suffix, marks=pytest.mark.whole) for suffix in SLOW)])
def test_labels_are_the_argmax_of_the_logits(tmp_path, suffix, channels, pooled, decision):
    skip_without(*PACKAGES[suffix])
    if suffix in ('.tflite', '.mlpackage') and pooled:
        pytest.skip('LiteRT and Core ML are for segmentors')
    if suffix in ('.ncnn.param', '.mlpackage') and (pooled or decision.confidences):
        pytest.skip('ncnn is for segmentors that answer every pixel')
    if suffix == '.opencv.onnx' and decision.confidences and not hasattr(pytest.importorskip('cv2').dnn, 'ENGINE_CLASSIC'):
        pytest.skip('OpenCV 4 cannot compare')
    images = np.random.default_rng(1).integers(0, 256, (3, 11, 9, 3), np.uint8) if suffix not in ONE_SIZE else IMAGES
    check(PROGRAMS[suffix](channels, pooled, tmp_path), decision, suffix, images, tmp_path)


@pytest.mark.parametrize(('quantize', 'suffix'), [(quantize_onnx, '.onnx'), (quantize_openvino, '.xml')])
@pytest.mark.parametrize(('channels', 'decision'), [
    (5, Decision(None, 'uint8')), (5, Decision(None, 'uint8', CONFIDENCES)), (1, Decision(0.4, 'uint8'))])
def test_labels_in_8_bits(tmp_path, quantize, suffix, channels, decision):
    skip_without(*PACKAGES[suffix], *(('nncf', ) if suffix == '.xml' else ()))
    in_onnx(channels, False).save(tmp_path / 'source.onnx')
    check(quantize(tmp_path / 'source.onnx', list(IMAGES[:, None]), []), decision, suffix, IMAGES, tmp_path)
