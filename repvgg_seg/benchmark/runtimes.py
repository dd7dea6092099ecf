"""Networks in runtimes other than PyTorch, for timing on CPUs."""
import importlib
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.onnx import ONNXProgram

from ..deploy.constants import fold_constants
from ..deploy.graph import OPSET
from ..deploy.identities import split_identities
from ..deploy.ncnn_program import convert
from ..deploy.quantization import QuantizeOnnx, quantize_onnx, quantize_openvino
from ..runtime.backend import Setting
from ..runtime.backends import load_file
from ..runtime.ncnn import load_net


class LastMap(nn.Module):
    """A network with a single output: the last one, if there are several, as with backbones."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Compute the last output of a batch (N, C, H, W)."""
        outputs = self.network(x)
        return outputs[-1] if isinstance(outputs, tuple) else outputs


def in_onnxruntime(network: nn.Module, x: Tensor, threads: int, precision: str) -> Callable[[], np.ndarray]:
    """Prepare a run in ONNX Runtime."""
    with TemporaryDirectory() as folder:
        path = Path(folder, 'network.onnx')
        if precision == 'int8':
            _write_quantized(quantize_onnx, network, x, path)
        else:
            _write_onnx(network, x, path)
        run = load_file(path, precision, Setting(threads))
    return partial(run, x.numpy())


def in_openvino(network: nn.Module, x: Tensor, threads: int, precision: str) -> Callable[[], np.ndarray]:
    """Prepare a run in OpenVINO."""
    openvino = importlib.import_module('openvino')
    with TemporaryDirectory() as folder:
        path = Path(folder, 'network.xml')
        if precision == 'int8':
            _write_quantized(quantize_openvino, network, x, path)
        else:
            _write_onnx(network, x, source := path.with_suffix('.onnx'))
            openvino.save_model(openvino.convert_model(source), path, compress_to_fp16=False)
        run = load_file(path, precision, Setting(threads))
    return partial(run, x.numpy())


def in_opencv(network: nn.Module, x: Tensor, threads: int, precision: str) -> Callable[[], np.ndarray]:
    """Prepare a run in OpenCV's own engine, which processes one image at a time."""
    with TemporaryDirectory() as folder:
        path = Path(folder, 'network.opencv.onnx')
        _write_onnx(network, x[:1], path)
        run = load_file(path, precision, Setting(threads))
    return partial(run, x.numpy())


def in_ncnn(network: nn.Module, x: Tensor, threads: int, precision: str) -> Callable[[], np.ndarray]:
    """Prepare a run in ncnn, which processes one image at a time."""
    ncnn = importlib.import_module('ncnn')
    with TemporaryDirectory() as folder:
        path = Path(folder, 'network.ncnn.param')
        channels, height, width = x.shape[1:]
        convert(network, (channels, height, width)).save(path)
        net = load_net(ncnn, path, precision, Setting(threads))
    images = x.numpy()

    def run() -> np.ndarray:
        outputs = []
        for image in images:
            extractor = net.create_extractor()
            extractor.input('images', ncnn.Mat(image))
            outputs.append(np.array(extractor.extract('logits')[1]))
        return np.stack(outputs)

    return run


def _write_onnx(network: nn.Module, x: Tensor, path: Path) -> ONNXProgram:
    logging.getLogger('torch.onnx').setLevel(logging.ERROR)
    program = torch.export.export(network, (x, ))
    fold_constants(program)
    written = cast(ONNXProgram, torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False,
                                                  input_names=['images']))
    written.save(path)
    return written


def _write_quantized(quantize: QuantizeOnnx, network: nn.Module, x: Tensor, path: Path) -> None:
    """Write a network in 8 bits as deploying does: with separate identities, and the first convolution in higher precision."""
    source = path.with_suffix('.fp32.onnx')
    written = _write_onnx(split_identities(network, required=False), x, source)
    first = next(node for node in written.model.graph if node.op_type == 'Conv')
    quantize(source, [x.numpy()], [first]).save(path)


class Runtime(NamedTuple):
    """A runtime other than PyTorch.

    Args:
        prepare: function of a network in float32, its input (N, C, H, W), a number of threads and a precision that returns a
            function to be timed.
        precisions: precisions that the runtime computes float32 networks in; for int8, they are quantized.
    """
    prepare: Callable[[nn.Module, Tensor, int, str], Callable[[], np.ndarray]]
    precisions: tuple[str, ...] = ('fp32', )


RUNTIMES = {'onnxruntime': Runtime(in_onnxruntime, ('fp32', 'int8')),
            'openvino': Runtime(in_openvino, ('fp32', 'bf16', 'int8')),
            'ncnn': Runtime(in_ncnn, ('fp32', 'bf16')), 'opencv': Runtime(in_opencv)}
