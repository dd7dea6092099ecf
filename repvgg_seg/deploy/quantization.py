"""Post-training quantization of a model's convolutions to 8 bits.

Two parts stay in higher precision because quantization hurts them most (see the measurements in ``docs/deployment.md``): the
diagonal of the fused kernels, and the first convolution, whose input has three channels. If the result is still not accurate
enough, more layers are excluded.
"""
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .onnx_opset import in_opset
from .programs import Exporter, OnnxProgram, OpenVinoProgram, Program

if TYPE_CHECKING:
    import onnx_ir
    import openvino

CONV2D_ARGUMENTS = ('input', 'weight', 'bias', 'stride', 'padding', 'dilation', 'groups')
MEASURED_IMAGES = 8  # Number of calibration images that are used to measure the error of individual layers.


class Layer(NamedTuple):
    """A convolution: the name of its weight in the model, and the power ratio of its output to its 8-bit error in decibels."""
    name: str
    decibels: float


@dataclass
class Call:
    """Statistics of a convolution: the name of its weight, the power of its output, and the power of its 8-bit error."""
    name: str
    power: float = 0
    error: float = 0


class LayerErrors(TorchFunctionMode):
    """Context manager that also computes each convolution in 8 bits and measures the error.

    Weights are quantized symmetrically per output channel, inputs affinely over their range in the batch. Each layer is
    measured in isolation: its input carries no rounding errors of earlier layers.

    Args:
        model: model whose weights give the layers their names.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        # A head may use slices of a weight, which share its memory. No other tensor can, because the weights are held here.
        self.weights = {name.removesuffix('.weight'): parameter for name, parameter in model.named_parameters()}
        self.names = {parameter.untyped_storage().data_ptr(): name for name, parameter in self.weights.items()}
        self.calls: list[Call] = []  # Convolution calls of one forward pass.
        self.index = 0

    def __torch_function__(self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None) -> object:
        output = func(*args, **(kwargs or {}))
        if func is F.conv2d:
            values = {**dict(zip(CONV2D_ARGUMENTS, args)), **(kwargs or {})}
            x, weight = values.pop('input'), values.pop('weight')
            rounded = func(round_input(x), round_weight(weight), **values)
            if self.index == len(self.calls):
                name = self.names.get(weight.untyped_storage().data_ptr(), f'convolution {self.index}, of a computed weight')
                self.calls.append(Call(name))
            self.calls[self.index].power += float(output.square().sum())
            self.calls[self.index].error += float((output - rounded).square().sum())
            self.index += 1
        return output

    @property
    def layers(self) -> list[Layer]:
        """Layers in the order of their calls."""
        return [Layer(call.name, 10 * math.log10(call.power / call.error) if call.error else math.inf) for call in self.calls]


def round_input(x: Tensor) -> Tensor:
    """Round to 256 levels over the range of all values; 0 is one of the levels."""
    low, high = min(float(x.amin()), 0), max(float(x.amax()), 0)
    step = (high - low) / 255 or 1
    return ((x / step).round().clamp(round(low / step), round(low / step) + 255)) * step


def round_weight(weight: Tensor) -> Tensor:
    """Round a weight (O, ...) to 255 levels that are symmetric around 0, over the range of each output channel."""
    step = weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny) / 127
    return (weight / step).round() * step


@torch.no_grad()
def layer_errors(model: nn.Module, images: Sequence[np.ndarray]) -> list[Layer]:
    """Measure the 8-bit error of each convolution in isolation.

    Args:
        model: model that takes images as uint8 (N, H, W, 3).
        images: images, uint8 (H, W, 3).
    """
    errors = LayerErrors(model)
    for image in images:
        errors.index = 0
        with errors:
            model(torch.from_numpy(image[None]))
    return errors.layers


class QuantizeOnnx(Protocol):
    """Function that quantizes an ONNX file; see :func:`quantize_openvino`."""

    def __call__(self, source: Path, images: Sequence[np.ndarray], excluded: Sequence['onnx_ir.Node']) -> Program: ...


# Function that calibrates and quantizes a model; see :meth:`Quantizer.quantize`.
Quantize = Callable[['Quantizer', int, Path], Program]


def through_onnx(quantize: QuantizeOnnx) -> Quantize:
    """Quantize a model as an ONNX file."""
    return lambda quantizer, excluded, folder: quantizer.quantize(quantize, excluded, folder)


class Quantizer:
    """Quantizes a model to 8 bits.

    Args:
        exporter: exporter of the model whose identities are split.
        images: calibration images in the form that the exported graph takes, uint8 (H, W, channels).
    """

    def __init__(self, exporter: Exporter, images: Sequence[np.ndarray]) -> None:
        self.exporter, self.images = exporter, images

    @cached_property
    def layers(self) -> list[Layer]:
        """All convolutions in the order of execution."""
        return layer_errors(self.exporter.graph(), self.images[:MEASURED_IMAGES])

    @cached_property
    def order(self) -> list[int]:
        """Indices of the layers: the first layer, then the others from the largest to the smallest relative error."""
        return [0, *sorted(range(1, len(self.layers)), key=lambda index: self.layers[index].decibels)]

    def quantize(self, quantize: QuantizeOnnx, excluded: int, folder: Path) -> Program:
        """Calibrate and quantize as an ONNX file.

        Args:
            quantize: :func:`quantize_openvino` or :func:`quantize_onnx`.
            excluded: number of layers at the start of ``order`` that stay in higher precision.
            folder: folder for a temporary file.

        Returns:
            The 8-bit network, which returns logits.
        """
        program = self.exporter.onnx()
        convolutions = [node for node in program.model.graph if node.op_type == 'Conv']
        if len(convolutions) != len(self.layers):
            raise RuntimeError(f'the exported graph has {len(convolutions)} convolutions, the model {len(self.layers)}')
        with TemporaryDirectory(dir=folder) as temporary:
            source = Path(temporary, 'source.onnx')
            OnnxProgram(in_opset(program.model_proto, self.exporter.plan.request.opset)).save(source)
            images = [np.repeat(image[None], self.exporter.plan.request.fixed_batch or 1, axis=0) for image in self.images]
            return quantize(source, images, [convolutions[index] for index in self.order[:excluded]])


def quantize_openvino(source: Path, images: Sequence[np.ndarray], excluded: Sequence['onnx_ir.Node']) -> OpenVinoProgram:
    """Quantize with NNCF and its bias correction.

    Args:
        source: path of the ONNX file.
        images: batches of calibration images, uint8 (N, H, W, channels), with an N that the file takes.
        excluded: convolutions of the ONNX file that are not quantized.

    Raises:
        RuntimeError: one of the excluded convolutions is missing from the model that is quantized.
    """
    import nncf
    import openvino
    from openvino.passes import ConstantFolding, Manager
    model = openvino.Core().read_model(source)
    folding = Manager()
    folding.register_pass(ConstantFolding())  # Otherwise NNCF skips convolutions whose weight is a slice of another.
    folding.run_passes(model)
    operations = {operation.get_type_name() for operation in model.get_ops()}
    # NNCF raises a RuntimeError unless it finds all of these operations.
    ignored = nncf.IgnoredScope(names=[openvino_convolution(model, node).get_friendly_name() for node in excluded],
                                types=sorted(operations & {'MatMul', 'Add', 'Multiply'}))
    nncf.set_log_level('ERROR')
    quantized = nncf.quantize(model, nncf.Dataset(images), subset_size=len(images),
                              preset=nncf.QuantizationPreset.MIXED, ignored_scope=ignored)
    return OpenVinoProgram(quantized, half=True)


def openvino_convolution(model: 'openvino.Model', node: 'onnx_ir.Node') -> 'openvino.Node':
    """Find the operation of an OpenVINO model that computes a convolution of the ONNX file that the model was read from.

    The search uses the name of the convolution's output tensor, because OpenVINO keeps tensor names but renames operations.

    Raises:
        RuntimeError: the model has no such operation.
    """
    tensor = node.outputs[0].name
    found = [operation for operation in model.get_ops() for output in operation.outputs()
             if tensor in output.get_names() and operation.get_type_name() != 'Result']
    if len(found) == 1 and found[0].get_type_name() == 'Add':  # It adds the bias to the output of the convolution.
        found = [found[0].input_value(0).get_node()]
    if len(found) != 1 or found[0].get_type_name() not in ('Convolution', 'GroupConvolution'):
        raise RuntimeError(f"OpenVINO's model has no convolution that computes {tensor}, so {node.name} would be in 8 bits")
    return found[0]


def quantize_onnx(source: Path, images: Sequence[np.ndarray], excluded: Sequence['onnx_ir.Node']) -> OnnxProgram:
    """Quantize with ONNX Runtime, to a graph with QuantizeLinear and DequantizeLinear around every convolution.

    Args:
        source: path of the ONNX file, which is modified.
        images, excluded: see :func:`quantize_openvino`.

    Raises:
        RuntimeError: see :func:`quantize_openvino`.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter([dict(images=batch) for batch in images])

        def get_next(self) -> dict | None:
            return next(self.batches, None)

    quant_pre_process(source, source, skip_symbolic_shape=True)
    convolutions = {node.name for node in onnx.load(source, load_external_data=False).graph.node if node.op_type == 'Conv'}
    names = [str(node.name) for node in excluded]
    if missing := [name for name in names if name not in convolutions]:  # ONNX Runtime does not check.
        raise RuntimeError(f'ONNX Runtime has no convolution {", ".join(missing)} any more, which would be in 8 bits')
    target = source.with_suffix('.int8.onnx')
    quantize_static(source, target, Images(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8,
                    activation_type=QuantType.QUInt8, op_types_to_quantize=['Conv'], nodes_to_exclude=names)
    return OnnxProgram(onnx.load(target))
