"""OpenCV 4 beside OpenCV 5, by stand-ins for its module."""
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from repvgg_seg.core.errors import InstallationError
from repvgg_seg.runtime.backend import ON_CPU
from repvgg_seg.runtime.opencv import load

IMAGES = np.zeros((2, 4, 5, 3), np.uint8)


def stand_in(version: str, outputs: np.ndarray, engines: bool = False) -> SimpleNamespace:
    """A module ``cv2`` whose networks give the same outputs for every image."""
    used = []
    net = SimpleNamespace(setInput=lambda pixels: used.append(pixels), forward=lambda: outputs)

    def read(*arguments):
        used.extend(arguments)
        return net
    dnn = SimpleNamespace(readNetFromONNX=read, **(dict(ENGINE_CLASSIC=1) if engines else {}))
    return SimpleNamespace(__version__=version, dnn=dnn, error=RuntimeError, used=used)


@pytest.mark.parametrize('version', ['4.8.1', '4.6.0', '3.4.20', '4.8.1-dev'])
def test_older_versions_are_refused(version):
    with pytest.raises(InstallationError) as raised:
        load(stand_in(version, np.zeros(1)), Path('model.fp32.opencv.onnx'), 'fp32', ON_CPU)
    assert str(raised.value) == (f'model.fp32.opencv.onnx needs OpenCV 4.9 or newer, found {version}; run: pip install '
                                 '--upgrade opencv-python')


@pytest.mark.parametrize(('version', 'engines'), [('4.9.0', False), ('4.14.0-dev', False), ('5.0.0', True)])
@pytest.mark.parametrize(('given', 'expected'), [
    (np.full((1, 4, 5), 2, np.float32), np.full((2, 4, 5), 2, np.uint8)),
    (np.full((1, 4, 5), 2, np.uint8), np.full((2, 4, 5), 2, np.uint8)),
    (np.full((1, 3, 4, 5), .5, np.float32), np.full((2, 3, 4, 5), .5, np.float32)),
    (np.full((1, 1), 300, np.float32), np.full(2, 300, np.int64)),
    (np.full(1, 300, np.int64), np.full(2, 300, np.int64)),
    (np.full((1, 3), .5, np.float32), np.full((2, 3), .5, np.float32))])
def test_outputs_have_the_dtype_of_the_file(version, engines, given, expected):
    cv2 = stand_in(version, given, engines)
    found = load(cv2, Path('model.fp32.opencv.onnx'), 'fp32', ON_CPU)(IMAGES)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    assert cv2.used[:2 if engines else 1] == ['model.fp32.opencv.onnx', *([1] if engines else [])]
    assert not np.shares_memory(found, given)
