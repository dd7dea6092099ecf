"""Post-training quantisation of a segmentor's convolutions to 8 bits.

Two things are kept out of it, because they lose most (``docs/deployment.md`` has the measurements): the diagonal of the fused
kernels, and the first convolution, whose input has three channels. More layers follow where that is not enough.
"""
import copy
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..files import telling_full_disk
from ..models.blocks import RepVGGBlock
from .graph import GraphExporter

MEASURED_IMAGES = 8  # Of the calibration images, for the error of single layers.


class SplitIdentity(nn.Module):
    """A fused 3x3 convolution, apart from the weights d with which a channel meets itself: conv(x) + d * x.

    A RepVGG block's identity branch adds about 1 to these weights, and the others are far smaller. Rounded together to 8 bits
    a channel, the others keep a few steps only. The sum is exact before rounding.

    Args:
        conv: a convolution with stride 1 and as many outputs as inputs; it is copied.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = copy.deepcopy(conv)
        outputs = torch.arange(conv.out_channels)
        diagonal = outputs, outputs % (conv.in_channels // conv.groups), 1, 1
        self.scale = nn.Parameter(conv.weight.detach()[diagonal].view(-1, 1, 1).clone(), requires_grad=False)
        with torch.no_grad():
            self.conv.weight[diagonal] = 0

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return self.conv(x) + self.scale * x


def split_identities(model: nn.Module) -> nn.Module:
    """A copy of a fused model in which every RepVGG block that had an identity branch has a :class:`SplitIdentity`."""
    model = copy.deepcopy(model)
    for block in model.modules():
        if isinstance(block, RepVGGBlock) and block.conv.in_channels == block.conv.out_channels and block.conv.stride == (1, 1):
            block.conv = SplitIdentity(block.conv)
    return model


class Layer(NamedTuple):
    """A convolution: name of its weight in the model, and its output over its error in 8 bits, in decibels of power."""
    name: str
    decibels: float


class LayerErrors(TorchFunctionMode):
    """While active, computes every convolution in 8 bits too, and compares: weights symmetric per output channel, inputs
    affine over the range in the batch, both by themselves, with inputs that are not rounded before.

    Args:
        model: of which the weights have names.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        # A head may use slices of a weight: they share its storage.
        self.names = {parameter.untyped_storage().data_ptr(): name.removesuffix('.weight')
                      for name, parameter in model.named_parameters()}
        self.powers: list[list[float]] = []  # For each call of a pass: name, power of the output, power of the error.
        self.call = 0

    def __torch_function__(self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None) -> object:
        output = func(*args, **(kwargs or {}))
        if func is F.conv2d:
            x, weight, *others = args
            rounded = func(round_input(x), round_weight(weight), *others, **(kwargs or {}))
            if self.call == len(self.powers):
                self.powers.append([self.names[weight.untyped_storage().data_ptr()], 0, 0])
            self.powers[self.call][1] += float(output.square().sum())
            self.powers[self.call][2] += float((output - rounded).square().sum())
            self.call += 1
        return output

    @property
    def layers(self) -> list[Layer]:
        """In the order of their calls."""
        return [Layer(name, 10 * math.log10(power / error) if error else math.inf) for name, power, error in self.powers]


def round_input(x: Tensor) -> Tensor:
    """Round to 256 steps over the range of all values, 0 being one of the steps."""
    low, high = min(float(x.amin()), 0), max(float(x.amax()), 0)
    step = (high - low) / 255 or 1
    return ((x / step).round().clamp(round(low / step), round(low / step) + 255)) * step


def round_weight(weight: Tensor) -> Tensor:
    """Round (O, ...) to 255 steps around 0 over the range of each output channel."""
    step = weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny) / 127
    return (weight / step).round() * step


@torch.no_grad()
def layer_errors(model: nn.Module, images: Sequence[np.ndarray]) -> list[Layer]:
    """What each convolution loses in 8 bits by itself.

    Args:
        model: takes uint8 (N, H, W, 3).
        images: uint8 (H, W, 3).
    """
    errors = LayerErrors(model)
    for image in images:
        errors.call = 0
        with errors:
            model(torch.from_numpy(image[None]))
    return errors.layers


class Quantizer:
    """Writes a segmentor in 8 bits.

    Args:
        exporter: of the segmentor with its identities split.
        images: for calibration, as the exported graph takes them, uint8 (H, W, 3).
    """

    def __init__(self, exporter: GraphExporter, images: Sequence[np.ndarray]) -> None:
        self.exporter, self.images = exporter, images

    @cached_property
    def layers(self) -> list[Layer]:
        """All convolutions, in order."""
        return layer_errors(self.exporter.graph('logits'), self.images[:MEASURED_IMAGES])

    @cached_property
    def order(self) -> list[int]:
        """Indices of the layers: the first, then from the one that loses most to the one that loses least."""
        return [0, *sorted(range(1, len(self.layers)), key=lambda index: self.layers[index].decibels)]

    def write(self, quantize: Callable, output: str, path: Path, kept: int) -> None:
        """Write a file.

        Args:
            quantize: :func:`quantize_openvino` or :func:`quantize_onnx`.
            output: 'labels' or 'logits'.
            path: file to write.
            kept: how many layers, in ``order``, are left as they are.
        """
        program = self.exporter.onnx(output)
        names = [node.name for node in program.model.graph if node.op_type == 'Conv']
        if len(names) != len(self.layers):
            raise RuntimeError(f'the exported graph has {len(names)} convolutions, the model {len(self.layers)}')
        source = path.with_name(f'{path.name}.onnx')
        try:
            program.save(source)
            quantize(source, path, self.images, [names[index] for index in self.order[:kept]])
        finally:
            source.unlink(missing_ok=True)


def quantize_openvino(source: Path, target: Path, images: Sequence[np.ndarray], kept: Sequence[str]) -> None:
    """Quantise by NNCF, with its bias correction.

    Args:
        source: ONNX file.
        target: ``.xml`` file to write; the ``.bin`` file comes beside it.
        images: for calibration, uint8 (H, W, 3).
        kept: names of convolutions that are not quantised.
    """
    import nncf
    import openvino
    from openvino.passes import ConstantFolding, Manager
    model = openvino.Core().read_model(source)
    folding = Manager()
    folding.register_pass(ConstantFolding())  # Otherwise NNCF leaves out convolutions whose weight is a slice of another.
    folding.run_passes(model)
    names = [node.get_friendly_name() for node in model.get_ordered_ops()
             if node.get_friendly_name().partition('/')[0] in kept]
    ignored = nncf.IgnoredScope(names=names, types=['MatMul', 'Add', 'Multiply'], validate=False)
    nncf.set_log_level('ERROR')
    quantized = nncf.quantize(model, nncf.Dataset(images, lambda image: image[None]), subset_size=len(images),
                              preset=nncf.QuantizationPreset.MIXED, ignored_scope=ignored)
    with telling_full_disk(target, source.stat().st_size):
        openvino.save_model(quantized, target)


def quantize_onnx(source: Path, target: Path, images: Sequence[np.ndarray], kept: Sequence[str]) -> None:
    """Quantise by ONNX Runtime, to the form with QuantizeLinear and DequantizeLinear around every convolution.

    Args:
        source, images, kept: see :func:`quantize_openvino`.
        target: ONNX file to write.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter([dict(images=image[None]) for image in images])

        def get_next(self) -> dict | None:
            return next(self.batches, None)

    quant_pre_process(source, source, skip_symbolic_shape=True)
    quantize_static(source, target, Images(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8,
                    activation_type=QuantType.QUInt8, op_types_to_quantize=['Conv'], nodes_to_exclude=list(kept))
