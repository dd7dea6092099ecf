"""8-bit files: what is in 8 bits, how much is lost, and what can be asked for."""
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from exports import skip_without
from mistakes import assert_error_line

from repvgg_seg.runtime.predictor import load

onnx = pytest.importorskip('onnx', reason='needs the extra [export]')
skip_without('onnxscript', 'onnxruntime', 'openvino', 'nncf')
pytestmark = pytest.mark.whole

NAMES = ('model.int8.onnx', 'model.int8.xml')


@pytest.fixture(scope='module')
def exported(config, checkpoint, tmp_path_factory) -> Path:
    """Both formats in int8, by a process of its own, with the workers that real configs have."""
    folder = tmp_path_factory.mktemp('export') / 'int8'
    command = [sys.executable, 'tools/deploy.py', config, checkpoint, '--out', folder, '--formats', 'onnx', 'openvino',
               '--precision', 'int8', '--cfg-options', 'test_dataloader.num_workers=1',
               'test_dataloader.persistent_workers=True']
    result = subprocess.run(list(map(str, command)), cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    assert re.search(r'^mIoU +\d+\.\d\d -> +\d+\.\d\d +\(3 images\)$', result.stdout, re.MULTILINE), result.stdout
    line = (r'model\.int8\.xml +logits differ by .* mIoU \d+\.\d\d, \d\.\d{4}% of the pixels of the test set '
            r'changed; in higher precision: backbone\.stem\.conv')
    assert re.search(line, result.stdout), result.stdout
    return folder


@pytest.fixture(scope='module')
def info(exported) -> dict:
    return json.loads((exported / 'deploy.json').read_text())


def test_sidecar(info, exported):
    assert set(info['artefacts']) == set(NAMES)
    assert info['calibration_images'] == 4 and info['evaluated_images'] == 3
    layers = info['layer_decibels']
    assert all(10 < value < 70 for value in layers.values()), layers
    # One for each block, the pyramid's two, the bottleneck, the classifier.
    assert len(layers) == 9 + 4 and list(layers)[0] == 'backbone.stem.conv'
    for name in NAMES:
        entry = info['artefacts'][name]
        assert entry['precision'] == 'int8' and info['miou_before'] - entry['miou'] <= 0.5
        assert 'backbone.stem.conv' in entry['higher_precision']


@pytest.mark.parametrize('name', NAMES)
def test_metrics_are_those_of_the_test_tool(run_tool, config, exported, info, tmp_path, name):
    assert run_tool('test', config, exported / name, '--work-dir', tmp_path).code == 0
    assert json.loads((tmp_path / 'test.json').read_text())['mIoU'] == pytest.approx(info['artefacts'][name]['miou'], abs=0.005)


@pytest.mark.parametrize('name', NAMES)
def test_changed_pixels_are_those_of_the_whole_test_set(run_tool, config, checkpoint, exported, info, tmp_path, name):
    for model, out in ((checkpoint, 'trained'), (exported / name, 'exported')):
        assert run_tool('test', config, model, '--work-dir', tmp_path, '--out', tmp_path / out).code == 0
    pairs = [[cv2.imread(str(tmp_path / out / path.name), cv2.IMREAD_UNCHANGED) for out in ('trained', 'exported')]
             for path in sorted((tmp_path / 'trained').iterdir())]
    assert len(pairs) == 3
    assert info['artefacts'][name]['changed_on_test_set'] == np.mean([before != after for before, after in pairs])


def test_the_trained_models_metric_is_that_of_the_test_tool(run_tool, config, checkpoint, info, tmp_path):
    assert run_tool('test', config, checkpoint, '--work-dir', tmp_path).code == 0
    assert json.loads((tmp_path / 'test.json').read_text())['mIoU'] == pytest.approx(info['miou_before'], abs=0.005)


def test_all_convolutions_but_those_named_are_in_8_bits(exported, info):
    graph = onnx.load(exported / 'model.int8.onnx').graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    kept = len(info['artefacts']['model.int8.onnx']['higher_precision'])
    inputs = Counter(made_by.get(name) for node in graph.node if node.op_type == 'Conv' for name in node.input[:2])
    convolutions = sum(node.op_type == 'Conv' for node in graph.node)
    assert convolutions == 13 and inputs['DequantizeLinear'] == 2 * (convolutions - kept)


def test_weights_are_symmetric_with_a_scale_for_each_channel(exported):
    """As docs/deployment.md says; inputs have one scale for all."""
    graph = onnx.load(exported / 'model.int8.onnx').graph
    values = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    for conv in (node for node in graph.node if node.op_type == 'Conv'):
        pixels, weights = (made_by.get(name) for name in conv.input[:2])
        if weights is None:  # In higher precision.
            continue
        kernel, scale, zero = (values[name] for name in weights.input)
        assert kernel.dtype == zero.dtype == np.int8 and scale.shape == kernel.shape[:1] and not zero.any()
        assert values[pixels.input[1]].shape == () and values[pixels.input[2]].dtype == np.uint8


@pytest.mark.parametrize('name', NAMES)
def test_runs_at_another_size_and_in_a_batch(exported, name):
    images = np.random.default_rng(0).integers(0, 256, (3, 65, 97, 3), np.uint8)
    predictor = load(exported / name)
    labels = predictor.batch(images)
    assert labels.shape == (3, 65, 97) and labels.dtype == np.uint8
    assert (labels == [predictor(image) for image in images]).mean() > 0.99


@pytest.mark.parametrize(('options', 'message'), [
    (['--formats', 'pt2', '--precision', 'int8'],
     'pt2 cannot be written in int8; --formats onnx or openvino or litert or web can'),
    (['--formats', 'onnx', '--precision', 'int8', '--cfg-options', 'train_dataloader.dataset.data_root=absent'],
     'int8 is calibrated on real images, but the training set is not on this machine; give some tens of images of the kind '
     'with --calibration FOLDER'),
    (['--formats', 'onnx', '--precision', 'int8', '--calibration', 'absent'],
     'no image at absent; expected an image, a folder with files that end in .jpg, .jpeg, .jpe, .jfif, .png, .bmp, .tif, '
     '.tiff, .webp, .ppm, .pgm, or a glob pattern'),
    (['--eval', '--cfg-options', 'test_dataloader.dataset.data_root=absent',
      'test_dataloader.dataset.type=repvgg_seg.CityscapesDataset'],
     "checkpoint {checkpoint} and the test set of the config have different classes: 'wall', 'traffic light', 'rider', "
     "'truck', 'bus' and 2 more only in the second; give the config that it was trained with"),
    (['--formats', 'pt2', '--eval', '--size', '56', '72'],
     '--eval compares with the trained model, which gets 48x64 pixels of the test set; use --size 48 64, or leave it out'),
])
def test_requests_that_cannot_be_met(run_tool, config, checkpoint, tmp_path, options, message):
    assert_error_line(run_tool('deploy', config, checkpoint, '--out', tmp_path / 'out', *options),
                      f'error: {message.format(checkpoint=checkpoint)}')
    assert not list(tmp_path.iterdir())


def test_a_precision_that_the_cpu_lacks(run_tool, config, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr('repvgg_seg.deploy.formats.request.native_precisions', lambda: ['fp32', 'bf16', 'int8'])
    result = run_tool('deploy', config, checkpoint, '--out', tmp_path / 'out', '--formats', 'pt2', '--precision', 'fp16')
    assert_error_line(result, 'error: this CPU cannot compute in fp16, so the file could not be checked here; use --precision '
                      'fp32 or bf16 or int8, or export on a CPU that can')


def test_nncf_is_needed_for_int8_only(run_tool, config, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr('repvgg_seg.deploy.formats.request.find_spec', lambda name: None if name == 'nncf' else True)
    options = ['--out', tmp_path / 'out', '--formats', 'openvino', '--precision']
    assert_error_line(run_tool('deploy', config, checkpoint, *options, 'fp32', 'int8'),
                      "error: openvino needs nncf; run: pip install 'repvgg_seg[openvino]'")


def test_benchmark_of_the_forms(run_tool, config, checkpoint, exported, tmp_path):
    out = tmp_path / 'out.json'
    arguments = ['artefacts', config, checkpoint, exported, '--rounds', '2', '--warm-up', '1', '--threads', '1', '--out', out]
    result = run_tool('benchmark', *arguments, '--size', '48', '64')
    assert result.code == 0, result.err
    written = json.loads(out.read_text())
    forms = ['PyTorch, training form, fp32', 'PyTorch, fused, fp32', 'PyTorch, fused, bf16', 'ONNX Runtime, int8',
             'OpenVINO, int8']
    assert [row['form'] for row in written['rows']] == [each['name'] for each in written['measurements']] == forms
    assert written['rows'][0]['times faster'] == '1.00' and written['rows'][3]['mIoU'] and written['versions']['torch']
    memory = [int(row['peak memory (MB)']) for row in written['rows']]
    assert max(memory[3:]) < min(memory[:3]), 'what is exported runs without PyTorch'
    assert '| OpenVINO, int8 | ' in result.out


@pytest.mark.parametrize('folder', ['absent', '.'])
def test_benchmark_without_artefacts(run_tool, config, checkpoint, folder):
    assert_error_line(run_tool('benchmark', 'artefacts', config, checkpoint, folder, '--size', '48', '64'),
                      f'error: {folder} has no deploy.json; expected a folder that tools/deploy.py wrote, or a file in it')


def test_another_size_than_that_of_the_test_is_not_evaluated(run_tool, config, checkpoint, tmp_path):
    result = run_tool('deploy', config, checkpoint, '--out', tmp_path / 'out', '--formats', 'onnx', '--precision', 'int8',
                      '--size', '56', '72')
    assert result.code == 0, result.err
    assert json.loads((tmp_path / 'out/deploy.json').read_text())['artefacts']['model.int8.onnx']['miou'] is None
    assert 'mIoU' not in result.out and load(tmp_path / 'out').size == (56, 72)
