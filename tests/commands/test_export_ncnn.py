"""Files for ncnn, and files without dilated convolutions."""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import FLOATS, expected_labels, labels_without, picture, skip_without
from helpers import assert_relatively_close
from mistakes import assert_error_line

from repvgg_seg.core.errors import UserError
from repvgg_seg.deploy.comparison import as_batch, logits_of
from repvgg_seg.runtime.predictor import load

skip_without('ncnn', 'pnnx', 'onnx', 'onnxscript', 'onnxruntime')
pytestmark = pytest.mark.whole

SIZE = (49, 66)


@pytest.fixture(scope='module')
def exported(config, random_checkpoint, tmp_path_factory) -> Path:
    """ncnn in both precisions, by a process of its own."""
    folder = tmp_path_factory.mktemp('export') / 'ncnn'
    command = [sys.executable, 'tools/deploy.py', config, random_checkpoint, '--out', folder, '--formats', 'ncnn',
               '--precision', *FLOATS, '--size', *SIZE]
    result = subprocess.run(list(map(str, command)), cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


def dilations_in(layers: str) -> list[int]:
    """Of the 3x3 convolutions in a file of ncnn."""
    convolutions = [dict(field.split('=') for field in line.split()[6:]) for line in layers.splitlines()[2:]
                    if line.startswith('Convolution ')]
    return [int(fields['2']) for fields in convolutions if fields['1'] == '3']


def test_folder_and_sidecar(exported):
    names = [f'model.{precision}.ncnn.param' for precision in FLOATS]
    assert {path.name for path in exported.iterdir()} == {
        *names, *(f'model.{precision}.ncnn.bin' for precision in FLOATS), *(f'{name}.json' for name in names), 'deploy.json'}
    info = json.loads((exported / 'deploy.json').read_text())
    assert set(info['artefacts']) == set(names) and len(info['classes']) == 12
    for name in names:
        entry = info['artefacts'][name]
        limits = (1e-5, 0) if entry['precision'] == 'fp32' else (0.1, 0.05)
        assert entry['logit_difference'] <= limits[0] and entry['changed'] <= limits[1]
        assert (entry['size'], entry['undilated']) == (list(SIZE), True)
        assert entry['bytes'] > sum(path.stat().st_size for path in exported.glob('model.fp32.ncnn.bin'))


def test_plain_convolutions_only(exported, config):
    dilations = dilations_in((exported / 'model.fp32.ncnn.param').read_text())
    assert dilations == [1] * (1 + 1 + 1 + 5 + 1 + 1), 'the blocks and the bottleneck'


@pytest.mark.parametrize('precision', FLOATS)
def test_agrees(exported, random_segmentor, precision):
    images = [picture(*SIZE, seed) for seed in range(3)]
    expected = np.stack([expected_labels(random_segmentor, image) for image in images])
    assert len(np.unique(expected)) > 3, 'answers of one class show nothing'
    labels = load(exported / f'model.{precision}.ncnn.param').batch(images)
    assert labels.dtype == np.uint8 and labels.shape == (3, *SIZE)
    assert (labels != expected).mean() <= dict(fp32=0, bf16=0.08)[precision]


def test_larger_images_are_cut(exported, random_segmentor):
    image = picture(60, 66)
    labels = load(exported)(image, overlap=9)
    assert labels.shape == (60, 66)
    np.testing.assert_array_equal(labels[:25], expected_labels(random_segmentor, image[:49])[:25])


def test_runs_without_what_it_was_trained_with(exported, random_segmentor, tmp_path):
    blocked = ['torch', 'mmengine', 'mmseg', 'mmcv', 'mmpretrain', 'onnxruntime', 'openvino', 'pnnx']
    labels = labels_without(blocked, exported, picture(*SIZE), tmp_path)
    np.testing.assert_array_equal(labels, expected_labels(random_segmentor, picture(*SIZE)))


def test_bgr_logits_and_dilation_left_in(run_tool, config, random_checkpoint, random_segmentor, tmp_path):
    result = run_tool('deploy', config, random_checkpoint, '--out', tmp_path / 'out', '--formats', 'ncnn', '--size', *SIZE,
                      '--channels', 'BGR', '--logits', '--undilate', 'off')
    assert result.code == 0, result.err
    predictor = load(tmp_path / 'out')
    image = picture(*SIZE)
    expected = logits_of(random_segmentor, as_batch(random_segmentor, image))[0]
    assert_relatively_close(torch.from_numpy(predictor(image)), expected, 1e-4)
    assert not predictor.artifact['undilated']
    assert sorted(dilations_in((tmp_path / 'out/model.fp32.ncnn.param').read_text())) == [1] * 4 + [2] * 5 + [4]


def test_other_formats_on_demand(run_tool, config, random_checkpoint, random_segmentor, tmp_path):
    onnx = pytest.importorskip('onnx')
    result = run_tool('deploy', config, random_checkpoint, '--out', tmp_path / 'out', '--formats', 'onnx', 'pt2', '--undilate',
                      'on')
    assert result.code == 0, result.err
    graph = onnx.load(tmp_path / 'out/model.fp32.onnx').graph
    dilations = [list(attribute.ints) for node in graph.node for attribute in node.attribute if attribute.name == 'dilations']
    assert dilations and all(pair == [1, 1] for pair in dilations)
    for name in ('model.fp32.onnx', 'model.fp32.pt2'):
        predictor = load(tmp_path / 'out' / name)
        assert predictor.artifact['undilated']
        for size in ((48, 64), (65, 97)):
            np.testing.assert_array_equal(predictor(picture(*size)), expected_labels(random_segmentor, picture(*size)))


@pytest.mark.parametrize(('options', 'message'), [
    (['--formats', 'ncnn'], 'ncnn takes images of one size; give --size H W'),
    (['--undilate', 'on'],
     'fused weights are written as they were trained, with dilation; --undilate on needs --formats besides pth and '
     'safetensors'),
    (['--formats', 'ncnn', '--precision', 'int8', '--size', '48', '64'],
     'ncnn cannot be written in int8; --formats onnx or openvino or litert or web can'),
])
def test_requests_that_cannot_be_met(run_tool, config, random_checkpoint, tmp_path, options, message):
    assert_error_line(run_tool('deploy', config, random_checkpoint, '--out', tmp_path / 'out', *options), f'error: {message}')
    assert not list(tmp_path.iterdir())


@pytest.mark.situation('Hostile or broken files', 'ncnn files that are cut short or have unknown layers, without sha256',
                       before='one line that did not say which file', now='one line that names the file')
@pytest.mark.parametrize(('suffix', 'damage'), [
    *((suffix, lambda content, share=share: content[:int(share * len(content))])
      for suffix in ('.param', '.bin') for share in (0, 0.01, 0.3, 0.9, 0.99)),
    ('.param', lambda content: content.replace(b'Convolution ', b'Intruder '))])
def test_damaged_files(exported, tmp_path, suffix, damage):
    for path in exported.glob('model.fp32.*'):
        shutil.copy(path, tmp_path)
    info = json.loads((exported / 'deploy.json').read_text())
    for entry in info['artefacts'].values():
        del entry['sha256']
    (tmp_path / 'deploy.json').write_text(json.dumps(info))
    path = tmp_path / f'model.fp32.ncnn{suffix}'
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError) as raised:
        load(path.with_suffix('.param'))
    assert str(raised.value) == (
        f'{path.with_suffix(".param")} cannot be loaded by ncnn ({path.name} is damaged, or has layers that this version does '
        'not know); copy or export it again')


def test_a_forked_process_loads_its_own(exported):
    script = '''
import multiprocessing, sys
import numpy as np
from repvgg_seg.runtime.predictor import load
predictor = load(sys.argv[1])
image = np.zeros((49, 66, 3), np.uint8)
predictor(image)
def answer(index):
    try:
        return predictor(image)
    except ValueError as error:
        return str(error)
with multiprocessing.get_context('fork').Pool(1) as pool:
    print(pool.map(answer, [0])[0])
'''
    path = exported / 'model.fp32.ncnn.param'
    result = subprocess.run([sys.executable, '-c', script, path], cwd=Path(__file__).parents[2], capture_output=True,
                            text=True, timeout=90)
    assert result.stdout.strip() == (
        f'{path} was loaded before this process was forked, in which ncnn would wait forever; load it in each process'
    ), result.stderr[-2000:]
