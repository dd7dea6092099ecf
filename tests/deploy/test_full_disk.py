"""A disk that fills while a model is deployed is told in one line, whatever writes; nothing is left, the older folder stays."""
import errno
import os
import shutil
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from exports import skip_without
from torch import nn
from torch.export import ExportedProgram
from torch.onnx import ONNXProgram

from repvgg_seg.core.errors import UserError
from repvgg_seg.core.replacing import replacement
from repvgg_seg.deploy.formats import FORMATS, ExportRequest
from repvgg_seg.deploy.ncnn_program import NcnnProgram
from repvgg_seg.deploy.programs import OpenVinoProgram

COMPILED = 'aotinductor'  # Which takes 20 seconds.
ROOM = 200_000  # Bytes; every file below needs more.


class OneConvolution:
    """Stands in for an ``Exporter``."""

    plan = SimpleNamespace(request=ExportRequest(), normalization=SimpleNamespace(channels=3))
    ncnn = NcnnProgram('layers', bytes(2 * ROOM))

    @cached_property
    def converted(self) -> ExportedProgram:
        return torch.export.export(nn.Conv2d(100, 100, 3).eval(), (torch.zeros(1, 100, 8, 8), ))

    @property
    def of_float_pixels(self) -> ExportedProgram:
        return torch.export.export(nn.Conv2d(3, 4000, 3).eval(), (torch.zeros(1, 3, 8, 8), ))

    def program(self, dtype: torch.dtype) -> ExportedProgram:
        return self.converted

    def onnx(self, dtype: torch.dtype = torch.float32) -> ONNXProgram:
        return torch.onnx.export(self.converted, dynamo=True, verbose=False)

    def openvino(self, folder: Path, half: bool) -> OpenVinoProgram:
        import openvino
        self.onnx().save(folder.parent.parent / 'source.onnx')  # Not on the disk that is full.
        return OpenVinoProgram(openvino.convert_model(folder.parent.parent / 'source.onnx'), half)


def message(out: Path) -> str:
    return (f'{out} cannot be written: the disk is full or the quota spent; what was there before is unharmed. Make room, or '
            'choose another folder')


@pytest.mark.situation('Tracebacks', 'the disk fills while deploy.py writes', before='a traceback, or the process was aborted',
                       now='one line; the older folder stays, nothing else is left')
@pytest.mark.parametrize('name', [pytest.param(name, marks=[pytest.mark.whole] if name == COMPILED else [])
                                  for name in FORMATS if FORMATS[name].export])
def test_every_format(small_disk, name):
    skip_without(*FORMATS[name].packages)
    (small_disk / 'out').mkdir()
    (small_disk / 'out/deploy.json').write_text('older')
    (small_disk / 'other').write_bytes(bytes(shutil.disk_usage(small_disk).free - ROOM))
    with pytest.raises(UserError) as raised, replacement(small_disk / 'out') as folder:
        program = FORMATS[name].export(OneConvolution(), 'fp32', folder)
        program.save(folder / f'model.fp32{FORMATS[name].suffix}')
    assert str(raised.value) == message(small_disk / 'out')
    assert sorted(os.listdir(small_disk)) == ['other', 'out'] and (small_disk / 'out/deploy.json').read_text() == 'older'


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(OSError, match='Input/output error'), replacement(tmp_path / 'out'):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    assert not os.listdir(tmp_path)
