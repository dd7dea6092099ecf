"""ONNX files, for ONNX Runtime and others."""
from pathlib import Path

from ..onnx_opset import in_opset
from ..programs import Exporter, OnnxProgram, Program
from ..quantization import quantize_onnx, through_onnx
from .format import PRECISIONS, Format


def export(exporter: Exporter, precision: str, folder: Path) -> Program:
    """Export to ONNX."""
    return OnnxProgram(in_opset(exporter.onnx(PRECISIONS[precision].dtype).model_proto, exporter.plan.request.opset))


FORMAT = Format('.onnx', ('fp32', 'fp16', 'int8'), export, ('onnx', 'onnxscript', 'onnxruntime'), 'onnx',
                through_onnx(quantize_onnx), abstains=True, portable=('fp16', ))
