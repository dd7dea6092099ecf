"""OpenVINO files."""
from pathlib import Path

from ..programs import Exporter, Program
from ..quantization import quantize_openvino, through_onnx
from .format import Format


def export(exporter: Exporter, precision: str, folder: Path) -> Program:
    """Export to OpenVINO; 16-bit precisions store the weights in 16 bits."""
    return exporter.openvino(folder, half=precision != 'fp32')


FORMAT = Format('.xml', ('fp32', 'fp16', 'bf16', 'int8'), export, ('onnx', 'onnxscript', 'openvino'), 'openvino',
                through_onnx(quantize_openvino), ('nncf', ), abstains=True)
