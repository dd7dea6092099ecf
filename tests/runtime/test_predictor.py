"""The runtime's tiles, and its errors, with a stand-in for the backend: a function of pixels."""
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repvgg_seg.core.errors import InstallationError, UserError
from repvgg_seg.runtime import predictor as runtime
from repvgg_seg.runtime.backend import Backend
from repvgg_seg.runtime.backends import BACKENDS, load_file
from repvgg_seg.runtime.predictor import Predictor, in_batches, load, windows

INFO = dict(classes=['a', 'b'], palette=[[0, 0, 0], [255, 255, 255]], channels='RGB', min_size=41)


def pixelwise(images):
    assert images.dtype == np.uint8 and images.flags.c_contiguous
    return images[..., 0] // 2


def predictor(run=pixelwise, size=None) -> Predictor:
    return Predictor(run, INFO, dict(size=size, precision='fp32'))


@given(st.integers(1, 200), st.data())
def test_windows_cover_every_pixel_once(size, data):
    length = data.draw(st.integers(1, size))
    overlap = data.draw(st.integers(0, length - 1))
    found = list(windows(size, length, overlap))
    assert [pixel for window in found for pixel in range(window.first, window.end)] == list(range(size))
    for window in found:
        assert 0 <= window.start <= window.first < window.end <= window.stop <= size and window.stop - window.start == length


@pytest.mark.parametrize(('size', 'length', 'overlap', 'expected'), [
    (100, 100, 30, [(0, 100, 0, 100)]),
    (100, 60, 20, [(0, 60, 0, 50), (40, 100, 50, 100)]),
    (101, 60, 20, [(0, 60, 0, 50), (40, 100, 50, 70), (41, 101, 70, 101)]),
])
def test_windows(size, length, overlap, expected):
    assert [tuple(window) for window in windows(size, length, overlap)] == expected


@pytest.mark.parametrize('batch_size', [1, 4, 100])
@pytest.mark.parametrize('tile', [None, (50, 64), (90, 130), (500, 500)], ids=str)
def test_tiles_of_a_pixelwise_model_change_nothing(tile, batch_size):
    image = np.random.default_rng(0).integers(0, 256, (90, 131, 3), np.uint8)
    np.testing.assert_array_equal(predictor()(image, tile=tile, overlap=20, batch_size=batch_size), image[..., 0] // 2)


def test_integers_of_numpy():
    image = np.random.default_rng(0).integers(0, 256, (90, 131, 3), np.uint8)
    for tile in (np.array([50, 64]), (np.int64(50), np.uint8(64))):
        np.testing.assert_array_equal(predictor()(image, tile=tile, overlap=np.int16(20), batch_size=np.int32(2)),
                                      image[..., 0] // 2)


@pytest.mark.parametrize('threads', [0, -1, 1.5, '2'])
def test_threads(tmp_path, threads):
    with pytest.raises(UserError, match=f'^threads must be 1 or more, or None, got {threads}$'):
        load(tmp_path, threads=threads)


def test_logits_are_put_together_too():
    image = np.random.default_rng(0).integers(0, 256, (90, 131, 3), np.uint8)
    output = predictor(lambda images: images.transpose(0, 3, 1, 2).astype(np.float32))(image, tile=(64, 64), overlap=8)
    assert output.dtype == np.float32
    np.testing.assert_array_equal(output, image.transpose(2, 0, 1))


def test_batches_are_as_large_as_asked_for():
    sizes = []
    image = np.zeros((64, 64 * 3, 3), np.uint8)
    predictor(lambda images: sizes.append(images.shape) or pixelwise(images))(image, tile=(64, 64), overlap=0, batch_size=2)
    assert sizes == [(2, 64, 64, 3), (1, 64, 64, 3)]


@pytest.mark.parametrize('count', [1, 2, 3, 4, 7])
def test_files_that_take_a_number_of_images_take_any(count):
    sizes = []
    run = in_batches(lambda images: sizes.append(len(images)) or pixelwise(images), 3)
    images = np.random.default_rng(0).integers(0, 256, (count, 5, 6, 3), np.uint8)
    np.testing.assert_array_equal(run(images), images[..., 0] // 2)
    assert sizes == [3] * -(-count // 3)


def test_the_number_of_images_is_that_of_the_artifact():
    sizes = []
    image = np.zeros((64, 64 * 3, 3), np.uint8)
    artifact = dict(size=[64, 64], precision='fp32', batch=2)
    Predictor(lambda images: sizes.append(images.shape) or pixelwise(images), INFO, artifact)(image, overlap=0)
    assert sizes == [(2, 64, 64, 3)] * 3


@pytest.mark.parametrize(('task', 'output', 'refused'), [
    ('segmentation', 'labels', True), ('segmentation', 'logits', False), ('classification', 'labels', False)])
def test_only_labels_of_pixels_have_8_bits(task, output, refused):
    info, artifact = dict(INFO, task=task, classes=[*map(str, range(256))]), dict(size=None, output=output)
    if not refused:
        assert len(Predictor(pixelwise, info, artifact).classes) == 256
        return
    with pytest.raises(UserError, match='^the exported segmentor has 256 classes; '):
        Predictor(pixelwise, info, artifact)


def test_a_list_of_images_of_any_sizes():
    images = [np.full((height, 50, 3), 100, np.uint8) for height in (41, 60)]
    outputs = predictor()(images)
    assert [output.shape for output in outputs] == [(41, 50), (60, 50)] and outputs[0][0, 0] == 50


def test_a_fixed_size_cuts_larger_images():
    sizes = []
    run = predictor(lambda images: sizes.append(images.shape[1:3]) or pixelwise(images), size=[48, 64])
    for options in (dict(overlap=10), {}):  # The default overlap fits into any window.
        assert run(np.zeros((100, 100, 3), np.uint8), **options).shape == (100, 100)
    assert set(sizes) == {(48, 64)}


@pytest.mark.parametrize(('size', 'image', 'arguments', 'message'), [
    (None, np.zeros((64, 64), np.uint8), {}, r'uint8 \(height, width, 3\), RGB; got uint8 \(64, 64\)'),
    (None, np.zeros((64, 64, 3), np.float32), {}, r'got float32 \(64, 64, 3\)'),
    (None, [None], {}, 'got NoneType'),
    (None, np.zeros((40, 64, 3), np.uint8), {}, r'the image has 40x64 pixels, this artifact takes 41x41 or more; enlarge'),
    ([48, 64], np.zeros((64, 48, 3), np.uint8), {}, r'the image has 64x48 pixels, this artifact takes 48x64 or more'),
    ([48, 64], np.zeros((64, 64, 3), np.uint8), dict(tile=(64, 64)), r'takes windows of 48x64 only, got tile=\(64, 64\)'),
    (None, np.zeros((64, 64, 3), np.uint8), dict(tile=(50, 50), overlap=50), 'overlap must be from 0 to 49 for windows of 50'),
    (None, np.zeros((64, 64, 3), np.uint8), dict(tile=(40, 50)), r'tile must be height and width, 41 or more each, got'),
    (None, np.zeros((64, 64, 3), np.uint8), dict(tile=512), 'tile must be height and width, 41 or more each, got 512'),
    (None, np.zeros((64, 64, 3), np.uint8), dict(overlap=0.5), 'overlap must be a number of pixels, or one for each axis, got'),
    (None, np.zeros((64, 64, 3), np.uint8), dict(batch_size=0), 'batch_size must be 1 or more, got 0'),
])
def test_refuses(size, image, arguments, message):
    with pytest.raises(UserError, match=message):
        predictor(size=size)(image, **arguments)


@pytest.mark.parametrize('count', [1, 3])
@pytest.mark.parametrize('form', [list, np.stack], ids=['list', 'array'])
def test_a_batch_is_one_call(form, count):
    calls = []
    run = predictor(lambda images: calls.append(len(images)) or pixelwise(images))
    images = [np.random.default_rng(seed).integers(0, 256, (41, 50, 3), np.uint8) for seed in range(count)]
    labels = run.batch(form(images))
    assert calls == [count] and labels.shape == (count, 41, 50)
    for image, found in zip(images, labels):
        np.testing.assert_array_equal(found, run(image))


def test_a_batch_of_a_classifier():
    run = Predictor(lambda images: images[:, 0, 0, 0].astype(np.int64), dict(INFO, task='classification'),
                    dict(size=None, precision='fp32'))
    assert run.batch([np.full((41, 41, 3), value, np.uint8) for value in (0, 1)]).tolist() == [0, 1]


@pytest.mark.parametrize(('size', 'images', 'message'), [
    (None, [], 'a batch needs one image or more, got none'),
    (None, [(64, 64), (64, 65), (60, 60)], 'the images of a batch must have one size, got 64x64 and 64x65; give images of '
     'other sizes in calls of their own'),
    ([48, 64], [(96, 64)] * 2, 'the images have 96x64 pixels, a batch of this artifact takes 48x64 only; give larger images '
     'one by one, or export without --size'),
    (None, [(64, 64), (40, 64)], 'the image has 40x64 pixels, this artifact takes 41x41 or more; enlarge the image')])
def test_what_is_no_batch(size, images, message):
    with pytest.raises(UserError) as error:
        predictor(size=size).batch([np.zeros((*shape, 3), np.uint8) for shape in images])
    assert str(error.value) == message


@pytest.mark.parametrize(('files', 'source', 'error', 'message'), [
    (None, '', UserError, r'has no deploy.json; expected a folder that repvgg-seg deploy wrote'),
    ([], '', UserError, r'is not an artifact that can be run; of those in deploy.json there are none. Export one with'),
    (['model.xml'], 'other.xml', UserError,
     r'other.xml is not an artifact that can be run; of those in deploy.json there are model.xml'),
    (['model.xml'], '', InstallationError, r'model.xml needs openvino, which is not installed; run: pip install openvino'),
])
def test_load_refuses(files, source, error, message, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    if files is not None:
        listed = dict.fromkeys(['model.xml', 'model.onnx'], dict(precision='fp32', size=None, output='labels'))
        (tmp_path / 'deploy.json').write_text(json.dumps(dict(INFO, artefacts=listed)))
        for name in files:
            (tmp_path / name).touch()
    with pytest.raises(error, match=message):
        load(tmp_path / source if source else tmp_path)


@pytest.mark.skipif(importlib.util.find_spec('onnxruntime') is None or importlib.util.find_spec('openvino') is None,
                    reason='needs the extra [export]')
@pytest.mark.parametrize(('present', 'missing', 'expected'), [
    (['a.bf16.xml', 'b.fp32.xml', 'c.fp32.onnx', 'd.fp32.pt2'], (), 'b.fp32.xml'),
    (['a.bf16.xml', 'c.fp32.onnx'], (), 'c.fp32.onnx'), (['a.bf16.xml'], (), 'a.bf16.xml'),
    (['b.fp32.xml', 'c.fp32.onnx'], ('openvino', ), 'c.fp32.onnx'),
])
def test_which_of_a_folder(present, missing, expected, tmp_path, monkeypatch):
    listed = {name: dict(precision=name.split('.')[1], size=None, output='labels') for name in [*present, 'gone.fp32.xml']}
    (tmp_path / 'deploy.json').write_text(json.dumps(dict(INFO, artefacts=listed)))
    for name in present:
        (tmp_path / name).touch()
    for module in missing:
        monkeypatch.setitem(sys.modules, module, None)
    loaded = []
    monkeypatch.setattr(runtime, 'load_file', lambda path, precision, setting: loaded.append((path.name, precision)))
    load(tmp_path)
    assert loaded == [(expected, expected.split('.')[1])]


def test_backends_get_arrays_in_c_order(monkeypatch):
    monkeypatch.setitem(BACKENDS, '.x', Backend('', 'math', '', lambda *args: lambda images: images.flags.c_contiguous))
    run = load_file(Path('model.x'), 'fp32')
    assert run(np.zeros((1, 2, 3, 3), order='F')) and run(np.zeros((1, 3, 2, 3)).transpose(0, 2, 3, 1))
