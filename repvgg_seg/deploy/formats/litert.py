"""LiteRT files (.tflite), for Android, iOS and single-board computers."""
import io
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from torch.export import ExportedProgram

from ...core.errors import UserError
from ...core.tasks import SEGMENTATION
from ..programs import Exporter, Program, TorchProgram
from ..quantization import Quantizer
from .format import PRECISIONS, Format

SIGNATURE, INPUT = 'serving_default', 'args_0'  # Names that litert_torch gives.
CONV_2D = 3  # Number of this operation in the schema of LiteRT files.


class LiteRtProgram(TorchProgram):
    """A network that is converted to LiteRT when it is saved."""

    def save(self, path: Path) -> None:
        """See :class:`repvgg_seg.deploy.programs.Program`."""
        import litert_torch
        litert_torch.config.show_progress = False
        module = self.program.module()
        for part in module.modules():
            part.training = False  # Exported modules do not have eval(), but LiteRT warns about this attribute.
        images, _ = self.program.example_inputs
        path.write_bytes(litert_torch.convert(module, images).model_content())


class QuantizedProgram(LiteRtProgram):
    """A network that is converted to LiteRT, calibrated and quantized when it is saved.

    Args:
        program: program with one output.
        images: calibration images, uint8 (H, W, channels).
        layers: number of convolutions.
        excluded: indices of the convolutions that stay in float32, in the order of execution.
    """

    def __init__(self, program: ExportedProgram, images: Sequence[np.ndarray], layers: int, excluded: Sequence[int]) -> None:
        super().__init__(program)
        self.images, self.layers, self.excluded = images, layers, excluded

    def save(self, path: Path) -> None:
        """See :class:`repvgg_seg.deploy.programs.Program`."""
        from ai_edge_quantizer import Quantizer as FileQuantizer
        from ai_edge_quantizer.qtyping import TFLOperationName
        from ai_edge_quantizer.recipe import AlgorithmName
        with TemporaryDirectory(dir=path.parent) as temporary:
            super().save(source := Path(temporary, 'source.tflite'))
            outputs = convolutions(source)
            if len(outputs) != self.layers:
                raise UserError(f'the LiteRT file has {len(outputs)} convolutions, the model {self.layers}, so that it is not '
                                'known which of them to quantize; leave int8 out for litert')
            quantizer = FileQuantizer(source)
            quantizer.add_static_config('.*', TFLOperationName.CONV_2D, activation_num_bits=8, weight_num_bits=8)
            for index in self.excluded:
                quantizer.update_quantization_recipe(f'^{re.escape(outputs[index])};?$', TFLOperationName.CONV_2D,
                                                     algorithm_key=AlgorithmName.NO_QUANTIZE)
            with redirect_stderr(io.StringIO()):  # Of progress bars.
                ranges = quantizer.calibrate({SIGNATURE: [{INPUT: image[None]} for image in self.images]})
                quantized = quantizer.quantize(ranges, enable_progress_report=False)
            path.write_bytes(quantized.quantized_model)


def convolutions(path: Path) -> list[str]:
    """Names of the outputs of a LiteRT file's convolutions, in the order of execution."""
    from ai_edge_quantizer.utils.tfl_flatbuffer_utils import get_tensor_name, read_model
    model = read_model(path)
    graph, = model.subgraphs
    return [get_tensor_name(graph.tensors[operator.outputs[0]]) for operator in graph.operators
            if model.operatorCodes[operator.opcodeIndex].builtinCode == CONV_2D]


def quantize(quantizer: Quantizer, excluded: int, folder: Path) -> Program:
    """Quantize to LiteRT, with one scale for each channel of a weight and one range for the values of each layer."""
    return QuantizedProgram(quantizer.exporter.program(), quantizer.images, len(quantizer.layers), quantizer.order[:excluded])


def export(exporter: Exporter, precision: str, folder: Path) -> Program:
    """Export to LiteRT."""
    return LiteRtProgram(exporter.program(PRECISIONS[precision].dtype))


FORMAT = Format('.tflite', ('fp32', 'int8'), export, ('litert_torch', 'ai_edge_litert'), 'litert', quantize,
                ('ai_edge_quantizer', ), any_size=False, batches=False, dtypes=('uint8', ), tasks=(SEGMENTATION, ),
                abstains=True)
