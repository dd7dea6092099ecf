"""A file that got its description still gives the output that was checked."""
from dataclasses import asdict

import numpy as np
import pytest

from repvgg_seg.core.errors import UserError
from repvgg_seg.deploy import sealing
from repvgg_seg.deploy.artifacts import Artifact
from repvgg_seg.deploy.formats import format
from repvgg_seg.runtime.description import FIELDS
from repvgg_seg.runtime.predictor import sha256_of

ARTIFACT = Artifact('onnx', 'fp32', (8, 9), 'labels', 0., 0., None, False, [], 0, '', batch=2)


def seal(path, monkeypatch, output) -> Artifact:
    """Seal a file whose backend is a stand-in; ``output`` is added to the output of the described file."""
    path.write_bytes(b'')

    def load_file(path, precision):
        added = output if path.stat().st_size else np.uint8(0)
        return lambda images: images[..., 0] + added

    monkeypatch.setattr(format, 'load_file', load_file)
    record = dict.fromkeys(FIELDS) | dict(task='segmentation', classes=['a'], palette=[[0, 0, 0]], channels='RGB',
                                          in_channels=3, dtype='uint8', min_size=1, artefacts={path.name: asdict(ARTIFACT)})
    return sealing.seal(path, ARTIFACT, record)


def test_size_and_hash_are_those_of_the_described_file(tmp_path, monkeypatch):
    path = tmp_path / 'model.fp32.onnx'
    sealed = seal(path, monkeypatch, np.uint8(0))
    assert (sealed.bytes, sealed.sha256) == (path.stat().st_size, sha256_of(path)) and sealed.bytes > 100


def test_another_output_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError) as raised:
        seal(tmp_path / 'model.fp32.onnx', monkeypatch, np.uint8(1))
    assert str(raised.value) == 'model.fp32.onnx gives another output with its description than without; nothing was written'
