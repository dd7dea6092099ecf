"""Exported programs of PyTorch."""
from pathlib import Path

from ..programs import Exporter, Program, TorchProgram
from .format import PRECISIONS, Format


def export(exporter: Exporter, precision: str, folder: Path) -> Program:
    """Export for ``torch.export.load``."""
    return TorchProgram(exporter.program(PRECISIONS[precision].dtype))


FORMAT = Format('.pt2', ('fp32', 'fp16', 'bf16'), export, abstains=True)
