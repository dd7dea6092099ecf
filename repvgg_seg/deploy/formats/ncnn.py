"""ncnn files."""
from pathlib import Path

from ...core.tasks import SEGMENTATION
from ..programs import Exporter, Program
from .format import Format


def export(exporter: Exporter, precision: str, folder: Path) -> Program:
    """Export to ncnn, whose files are the same in all precisions."""
    return exporter.ncnn


FORMAT = Format('.ncnn.param', ('fp32', 'bf16'), export, ('ncnn', 'pnnx'), 'ncnn', any_size=False, batches=False,
                undilate=True, tasks=(SEGMENTATION, ))
