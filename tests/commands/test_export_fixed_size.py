"""Files for runtimes that take one image of one size at a time."""
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import expected_labels, labels_without, picture, skip_without
from helpers import assert_relatively_close
from mmengine.config import Config

from repvgg_seg.core.errors import UserError
from repvgg_seg.deploy.comparison import as_batch, logits_of
from repvgg_seg.deploy.deploying import deploy
from repvgg_seg.deploy.formats import FORMATS, ExportRequest
from repvgg_seg.runtime.backends import backend_of
from repvgg_seg.runtime.predictor import load

SIZE = (49, 66)
NAMES = ('opencv', 'litert', 'executorch', 'aotinductor')
pytestmark = pytest.mark.whole


@pytest.fixture(scope='module', params=NAMES)
def exported(request, config, random_checkpoint, tmp_path_factory) -> Path:
    """A file that returns class indices."""
    entry = FORMATS[request.param]
    skip_without(*entry.packages)
    folder = tmp_path_factory.mktemp('export') / request.param
    deploy(Config.fromfile(config), str(random_checkpoint), folder, ExportRequest((request.param, ), size=SIZE))
    return folder / f'model.fp32{entry.suffix}'


def test_agrees(exported, random_segmentor):
    info = json.loads((exported.parent / 'deploy.json').read_text())
    entry = info['artefacts'][exported.name]
    assert entry['size'] == list(SIZE) and entry['logit_difference'] <= 1e-5 and entry['changed'] == 0
    images = [picture(*SIZE, seed) for seed in range(3)]
    expected = np.stack([expected_labels(random_segmentor, image) for image in images])
    assert len(np.unique(expected)) > 3, 'answers of one class show nothing'
    predictor = load(exported, threads=2)
    np.testing.assert_array_equal(predictor.run(np.stack(images)), expected)
    assert predictor.run(np.stack(images)).dtype == np.uint8
    with ThreadPoolExecutor(3) as pool:
        for found, index in zip(pool.map(predictor, images * 4), [0, 1, 2] * 4):
            np.testing.assert_array_equal(found, expected[index])


def test_arrays_in_another_order_of_memory(exported, random_segmentor):
    image = picture(*SIZE)
    expected = expected_labels(random_segmentor, image)
    predictor = load(exported)
    np.testing.assert_array_equal(predictor(np.asfortranarray(image)), expected)
    np.testing.assert_array_equal(predictor(np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0)), expected)


def test_larger_images_are_cut(exported, random_segmentor):
    image = picture(60, 66)
    labels = load(exported)(image, overlap=9, batch_size=2)
    np.testing.assert_array_equal(labels[:25], expected_labels(random_segmentor, image[:49])[:25])
    np.testing.assert_array_equal(labels[35:], expected_labels(random_segmentor, image[-49:])[24:])


def test_runs_without_what_it_was_trained_with(exported, random_segmentor, tmp_path):
    module = backend_of(exported).module.partition('.')[0]
    blocked = {'torch', 'mmengine', 'mmseg', 'mmcv', 'mmpretrain', 'onnx', 'onnxruntime', 'openvino', 'ncnn', 'litert_torch'}
    blocked -= {module, *(('torch', ) if backend_of(exported).needs_torch else ())}
    labels = labels_without(blocked, exported, picture(*SIZE), tmp_path)
    np.testing.assert_array_equal(labels, expected_labels(random_segmentor, picture(*SIZE)))


def test_forked_processes(exported):
    code = '''
import multiprocessing, sys
import numpy as np
from repvgg_seg.runtime.predictor import load
predictor = load(sys.argv[1], threads=2)
image = np.random.default_rng(0).integers(0, 256, (49, 66, 3), np.uint8)
expected = predictor(image)
def agrees(index):
    return bool((predictor(image) == expected).all())
with multiprocessing.get_context('fork').Pool(2) as pool:
    print(all(pool.map(agrees, range(6))))
'''
    result = subprocess.run([sys.executable, '-c', code, exported], cwd=Path(__file__).parents[2], capture_output=True,
                            text=True, timeout=90)
    assert result.stdout.strip() == 'True', result.stderr[-2000:]


@pytest.mark.parametrize('share', [0, 0.01, 0.3])
def test_damaged_files(exported, tmp_path, share):
    info = json.loads((exported.parent / 'deploy.json').read_text())
    del info['artefacts'][exported.name]['sha256']
    (tmp_path / 'deploy.json').write_text(json.dumps(info))
    path = Path(shutil.copy(exported, tmp_path))
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(UserError) as raised:
        load(path)
    message = str(raised.value)
    assert message.startswith(f'{path} cannot be loaded by {backend_of(path).module} (') and '\n' not in message
    assert message.endswith('); copy or export it again')


@pytest.mark.parametrize('name', NAMES)
def test_bgr_logits_and_dilation(name, config, random_checkpoint, random_segmentor, tmp_path):
    skip_without(*FORMATS[name].packages)
    deploy(Config.fromfile(config), str(random_checkpoint), tmp_path / 'out',
           ExportRequest((name, ), size=SIZE, channels='BGR', logits=True, undilate=not FORMATS[name].undilate))
    predictor = load(tmp_path / 'out' / f'model.fp32{FORMATS[name].suffix}')
    image = picture(*SIZE)
    expected = logits_of(random_segmentor, as_batch(random_segmentor, image))[0]
    assert_relatively_close(torch.from_numpy(predictor(image)), expected, 1e-4)
    assert predictor.artifact['undilated'] is not FORMATS[name].undilate
