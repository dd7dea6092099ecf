"""tools/predict.py with test pipelines that resize, normalize or load other images than color pictures of 8 bits."""
import copy

import numpy as np
import pytest
from exports import skip_without
from mmengine.config import Config
from PIL import Image

from repvgg_seg.core.visualization import viewable
from repvgg_seg.deploy.deploying import deploy
from repvgg_seg.deploy.formats import ExportRequest
from repvgg_seg.engine.prediction import predict

STEPS = {'plain': [], 'resized': [dict(type='Resize', scale=(128, 96), keep_ratio=True)],
         'smaller': [dict(type='Resize', scale=(56, 44))]}


@pytest.mark.situation('Tracebacks', 'predict.py with a test pipeline that resizes, as MMSegmentation\'s own do',
                       before='a traceback', now='labels and overlays have the size of the image, also with exported files')
@pytest.mark.parametrize('kind', ['trained', pytest.param('exported', marks=pytest.mark.whole)])
def test_pipelines_that_resize(config, random_checkpoint, streets, tmp_path, kind):
    loaded = Config.fromfile(config)
    if kind == 'exported':
        skip_without('onnx', 'onnxscript', 'onnxruntime')
        deploy(copy.deepcopy(loaded), str(random_checkpoint), tmp_path / 'exported', ExportRequest(formats=('onnx', )))
    model = str(random_checkpoint if kind == 'trained' else tmp_path / 'exported')
    image = min((streets / 'leftImg8bit/val/toytown').iterdir())
    for name, steps in STEPS.items():
        load, *others = Config.fromfile(config).test_dataloader.dataset.pipeline
        loaded.test_dataloader.dataset.pipeline = [load, *steps, *others]
        _, overlay = predict(copy.deepcopy(loaded), model, str(image), tmp_path / name).written
        labels = np.array(Image.open(tmp_path / name / f'{image.stem}.png'))
        assert labels.shape == (48, 64) and len(np.unique(labels)) > 1
        assert Image.open(overlay).width == 64
    shown = [np.array(Image.open(tmp_path / name / f'{image.stem}_overlay.png'))[:48].astype(int) for name in STEPS]
    assert abs(shown[0] - shown[1]).mean() < 60  # Both show the image as it is.


@pytest.mark.parametrize(('pixels', 'expected'), [
    (np.array([[[1, 2, 3]]], np.uint8), [3, 2, 1]), (np.array([[[1, 2, 3, 4]]], np.uint8), [3, 2, 1]),
    (np.array([[7]], np.uint8), [7, 7, 7]), (np.array([[[7]]], np.uint8), [7, 7, 7]),
    (np.array([[[7, 9]]], np.uint8), [7, 7, 7]),
    (np.array([[65535, 0]], np.uint16), [255, 255, 255]), (np.array([[3.0, np.nan, np.inf, -1]], np.float32), [255, 255, 255]),
    (np.array([[5.0]]), [0, 0, 0]),
], ids=['BGR', 'BGRA', 'gray', 'one channel', 'two channels', '16 bits', 'float', 'constant'])
def test_what_can_be_shown(pixels, expected):
    shown = viewable(pixels)
    assert shown.shape == (*pixels.shape[:2], 3) and shown.dtype == np.uint8 and shown[0, 0].tolist() == expected
    shown[:] = 0
    assert pixels.flat[0] != 0
