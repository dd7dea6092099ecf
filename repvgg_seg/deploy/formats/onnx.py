"""ONNX files, for ONNX Runtime and others."""
from pathlib import Path

from ..programs import Exporter, OnnxProgram, Program
from ..quantization import quantize_onnx
from .format import Format


def export(exporter: Exporter, precision: str, folder: Path) -> Program:
    """Export to ONNX."""
    return OnnxProgram(exporter.onnx.model_proto)


FORMAT = Format('.onnx', ('fp32', 'int8'), export, ('onnx', 'onnxscript', 'onnxruntime'), 'onnx', quantize_onnx,
                abstains=True)
