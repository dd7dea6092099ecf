"""Classifiers are exported, quantized, checked and run in the same way as segmentors."""
import json
from collections import Counter
from collections.abc import Callable
from importlib import import_module as module_of
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import picture, skip_without
from helpers import assert_relatively_close
from mistakes import assert_error_line
from mmengine.config import Config
from PIL import Image

from repvgg_seg.core.errors import UserError
from repvgg_seg.deploy.classifier_int8 import METHODS, int8_accuracies
from repvgg_seg.deploy.comparison import as_batch, logits_of
from repvgg_seg.deploy.deploying import deploy
from repvgg_seg.deploy.formats import ExportRequest
from repvgg_seg.engine.trained_model import build_trained
from repvgg_seg.runtime.predictor import load

skip_without('onnx', 'onnxscript', 'onnxruntime', 'openvino', 'nncf')
pytestmark = pytest.mark.whole

WHOLE = 'tile, overlap and batch_size are for segmentors; a classifier takes whole images, so leave them out'
NAMES = ('model.fp32.onnx', 'model.int8.onnx', 'model.fp32.xml', 'model.int8.xml', 'model.fp32.pt2')


@pytest.fixture(scope='module')
def exported(classifier_config, classifier_checkpoint, tmp_path_factory) -> Path:
    """Every format that classifiers have, in fp32 and int8."""
    folder = tmp_path_factory.mktemp('export') / 'classifier'
    request = ExportRequest(('pth', 'onnx', 'openvino', 'pt2'), ('fp32', 'int8'), size=(32, 32), evaluate=True)
    calls = Counter()
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (('torch.export', 'export'), ('torch.onnx', 'export'), ('nncf', 'quantize'),
                             ('onnxruntime.quantization', 'quantize_static')):
            patch.setattr(module_of(module), name, counted(getattr(module_of(module), name), calls, f'{module}.{name}'))
        report = deploy(Config.fromfile(classifier_config), str(classifier_checkpoint), folder, request)
    # The network as it is and with its identities separated, both for logits and labels.
    assert calls == {'torch.export.export': 2, 'torch.onnx.export': 2, 'nncf.quantize': 1,
                     'onnxruntime.quantization.quantize_static': 1}
    before, onnx = report.accuracy_before, report.artefacts['model.fp32.onnx']
    lines = report.lines()
    assert lines[0].endswith('of the images change class')
    assert lines[1] == f'top-1       {before:>14.2f} -> {before:>14.2f}   (6 images)'
    assert lines[5] == (f'model.fp32.onnx    logits differ by {onnx.logit_difference:.1e}, 0.0000% of the images change class; '
                        f'{onnx.bytes / 1e6:.1f} MB; top-1 {before:.2f}, 0.0000% of the images of the test set changed')
    assert lines[-1] == ('not in the exported files: ResizeEdge, CenterCrop of the test pipeline; give them images after that')
    return folder


def counted(function: Callable, calls: Counter, name: str) -> Callable:
    """A function that counts its calls under a name."""

    def call(*args, **kwargs):
        calls[name] += 1
        return function(*args, **kwargs)

    return call


def images_of(config: Path) -> list[np.ndarray]:
    """The validation images, RGB (32, 32, 3)."""
    root = Path(Config.fromfile(config).test_dataloader.dataset.data_root)
    return [np.array(Image.open(path))[4:36, 8:40].copy() for path in sorted(root.glob('val/*/*.png'))]


def test_sidecar(exported):
    info = json.loads((exported / 'deploy.json').read_text())
    assert set(info['artefacts']) == set(NAMES)
    assert (info['task'], info['unit'], info['classes'], info['palette']) == (
        'classification', 'images', ['blue', 'green', 'red'], [])
    assert (info['min_size'], info['align_corners'], info['threshold'], info['channels']) == (1, None, None, 'RGB')
    assert info['miou_before'] is info['miou_after'] is None and info['accuracy_before'] == info['accuracy_after']
    assert info['mean'] == [123.675, 116.28, 103.53] and info['evaluated_images'] == 6 and info['calibration_images'] == 12
    assert len(info['layer_decibels']) == 9
    for name, entry in info['artefacts'].items():
        assert entry['miou'] is None and entry['accuracy'] == pytest.approx(info['accuracy_before']), name
        limits = (1e-5, 0) if entry['precision'] == 'fp32' else (0.5, 0.05)
        assert entry['logit_difference'] <= limits[0] and entry['changed'] <= limits[1], name
        assert bool(entry['higher_precision']) == (entry['precision'] == 'int8')


@pytest.mark.parametrize('name', NAMES)
def test_classes_of_images(exported, classifier_config, classifier_checkpoint, name):
    trained, _ = build_trained(Config.fromfile(classifier_config), str(classifier_checkpoint))
    predictor, images = load(exported / name), images_of(classifier_config)
    expected = [int(logits_of(trained, as_batch(trained, image[..., ::-1]))[0].argmax()) for image in images]
    found = predictor(images)
    assert [int(each) for each in found] == expected and len(set(expected)) > 1
    assert all(each.dtype == np.int64 and each.shape == () for each in found)
    assert predictor.classes[predictor(images[0])] == predictor.classes[expected[0]]
    batch = predictor.batch(images)
    assert batch.dtype == np.int64 and batch.tolist() == expected


@pytest.mark.parametrize(('arguments', 'message'), [
    (dict(tile=(32, 32)), WHOLE),
    (dict(overlap=3), WHOLE),
    (dict(batch_size=2), WHOLE),
    (dict(channels=4), 'an image must be a NumPy array, uint8 (height, width, 3), RGB; got uint8 (32, 32, 4)')])
def test_what_a_classifier_does_not_take(exported, arguments, message):
    image = np.zeros((32, 32, arguments.pop('channels', 3)), np.uint8)
    with pytest.raises(UserError) as raised:
        load(exported / 'model.fp32.onnx')(image, **arguments)
    assert str(raised.value) == message


@pytest.mark.parametrize('name', ['model.int8.onnx', 'model.fp32.xml'])
def test_metrics_of_an_exported_file(run_tool, classifier_config, exported, tmp_path, name):
    result = run_tool('classify_test', classifier_config, exported / name, '--work-dir', tmp_path)
    assert result.code == 0, result.err
    info = json.loads((exported / 'deploy.json').read_text())
    assert json.loads((tmp_path / 'test.json').read_text())['accuracy/top1'] == pytest.approx(info['accuracy_before'])


def test_scores_need_logits(run_tool, classifier_config, exported, tmp_path):
    path = exported / 'model.fp32.onnx'
    assert_error_line(
        run_tool('classify_test', classifier_config, path, '--work-dir', tmp_path, '--out', tmp_path / 'out.csv'),
        f'error: {path} gives classes without the scores that --out writes; export it with --logits, or leave --out out')


def test_images_of_any_size(classifier_config, classifier_checkpoint, tmp_path):
    loaded = Config.fromfile(classifier_config)
    request = ExportRequest(('pt2', ))
    with pytest.raises(UserError) as raised:
        deploy(loaded, str(classifier_checkpoint), tmp_path / 'out', request)
    assert str(raised.value) == (
        'images of 32x32 pixels are too small for a classifier of any size, which takes 33x33 or more; give --size 32 32')
    assert not list(tmp_path.iterdir())
    loaded.test_dataloader.dataset.pipeline = [loaded.test_dataloader.dataset.pipeline[0], dict(type='PackInputs')]
    deploy(loaded, str(classifier_checkpoint), tmp_path / 'out', request)
    predictor, trained = load(tmp_path / 'out/model.fp32.pt2'), build_trained(loaded, str(classifier_checkpoint))[0]
    for size in ((33, 33), (40, 48), (65, 97)):
        assert int(predictor(picture(*size))) == int(logits_of(trained, as_batch(trained, picture(*size)[..., ::-1])).argmax())
    with pytest.raises(UserError) as raised:
        predictor(picture(32, 40))
    assert str(raised.value) == 'the image has 32x40 pixels, this artifact takes 33x33 or more; enlarge the image'


def test_logits_of_one_size_in_bgr(run_tool, classifier_config, classifier_checkpoint, tmp_path):
    folder = tmp_path / 'out'
    result = run_tool('deploy', classifier_config, classifier_checkpoint, '--out', folder, '--formats', 'pt2', '--logits',
                      '--channels', 'BGR', '--size', '32', '32')
    assert result.code == 0, result.err
    predictor, image = load(folder / 'model.fp32.pt2'), images_of(classifier_config)[0][..., ::-1].copy()
    trained, _ = build_trained(Config.fromfile(classifier_config), str(classifier_checkpoint))
    assert_relatively_close(torch.from_numpy(predictor(image)), logits_of(trained, as_batch(trained, image))[0], 1e-5)
    with pytest.raises(UserError) as raised:
        predictor(np.zeros((40, 32, 3), np.uint8))
    assert str(raised.value) == (
        'the image has 40x32 pixels, this artifact takes 32x32 only; resize the image, or export without --size')
    result = run_tool('classify_test', classifier_config, folder / 'model.fp32.pt2', '--trust-checkpoint', '--work-dir',
                      tmp_path / 'test', '--out', tmp_path / 'out.csv')
    assert result.code == 0, result.err
    assert len((tmp_path / 'out.csv').read_text().splitlines()) == 1 + 6


@pytest.mark.parametrize(('options', 'message'), [
    (['--formats', 'ncnn', '--size', '32', '32'],
     'ncnn cannot be written of a classifier; --formats pth or safetensors or onnx or openvino or pt2 or opencv or executorch '
     'or aotinductor can'),
    (['--formats', 'onnx', '--precision', 'bf16'], 'onnx cannot be written in bf16; --formats openvino or pt2 or ncnn or '
                                                 'aotinductor can')])
def test_requests_that_cannot_be_met(run_tool, classifier_config, classifier_checkpoint, tmp_path, options, message):
    assert_error_line(run_tool('deploy', classifier_config, classifier_checkpoint, '--out', tmp_path / 'out', *options),
                      f'error: {message}')
    assert not list(tmp_path.iterdir())


def test_an_exported_file_for_another_task(run_tool, config, classifier_config, exported, tmp_path):
    path = exported / 'model.fp32.onnx'
    message = (f'error: {path} is an exported classifier, the config is for a segmentor; give the config that it was trained '
               'with')
    assert_error_line(run_tool('test', config, path, '--work-dir', tmp_path), message)
    image = next(Path(Config.fromfile(classifier_config).test_dataloader.dataset.data_root).glob('val/*/*.png'))
    assert_error_line(run_tool('predict', config, path, image, '--out', tmp_path / 'out'), message)
    assert_error_line(run_tool('benchmark', 'artefacts', config, path, exported, '--size', '32', '32'), (
        f'error: {exported / "deploy.json"} lists artifacts of a classifier; only those of a segmentor are compared here'))


def test_comparison_of_the_ways_to_quantize(classifier_config, classifier_checkpoint):
    found = int8_accuracies(Config.fromfile(classifier_config), str(classifier_checkpoint))
    assert list(found) == ['fp32', *METHODS] == [
        'fp32', 'ONNX Runtime', 'ONNX Runtime, identity separated', 'OpenVINO', 'OpenVINO, identity separated']
    assert all(0 <= value <= 100 for value in found.values()) and found['fp32'] > 50
