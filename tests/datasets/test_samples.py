"""Data are checked as the loading steps of their own pipeline read them, in wrappers too."""
import os
import re
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmseg.registry import DATASETS, TRANSFORMS
from PIL import Image

from repvgg_seg.core.errors import DataError
from repvgg_seg.datasets import LoadImage, LoadLabels
from repvgg_seg.datasets.checking import check_dataset, check_sample
from repvgg_seg.datasets.samples import verify
from repvgg_seg.datasets.wrappers import leaves

META = dict(classes=['a', 'b', 'c'], palette=[[0, 0, 0], [0, 0, 255], [255, 0, 0]])
LABELS = np.resize(np.arange(3, dtype=np.uint8), (24, 32))
PLAIN = dict(type='LoadImageFromFile')
UNCHANGED = dict(type='LoadImageFromFile', color_type='unchanged')
OWN = 'repvgg_seg.PairedSegDataset'


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)
    return path


def dataset(root: Path, kind: str = OWN, image: dict = PLAIN, label: dict | None = None, **options) -> dict:
    return dict(type=kind, data_root=str(root), metainfo=META, serialize_data=False, data_prefix=dict(
        img_path='images', seg_map_path='labels'), pipeline=[image, label or dict(type='LoadAnnotations')]) | options


@pytest.fixture
def pair(tmp_path):
    """Write an image and its labels."""
    def write_pair(pixels: np.ndarray | None = None, labels: np.ndarray = LABELS, name: str = 'a',
                   suffix: str = '.jpg') -> Path:
        if pixels is None:
            pixels = np.random.randint(0, 256, (24, 32, 3), np.uint8)
        write(tmp_path / f'labels/{name}.png', labels)
        return write(tmp_path / f'images/{name}{suffix}', pixels)
    return write_pair


def found(settings: dict) -> dict[str, list[str]]:
    """Kinds of errors in a dataset, with their messages."""
    report = check_dataset(DATASETS.build(settings), 'the set')
    return {kind: report.messages[kind] for kind in report.errors}


@pytest.mark.situation('Tracebacks', 'images of 16 bits or floating point that the config\'s own step reads',
                       before='refused before training and by check_data.py', now='checked as the config reads them')
@pytest.mark.parametrize('kind', [OWN, 'BaseSegDataset'])
@pytest.mark.parametrize(('step', 'suffix', 'dtype'), [
    (dict(imdecode_backend='cv2', to_float32=True), '.png', np.uint16), (dict(), '.png', np.uint16),
    (dict(), '.tif', np.float32), (dict(imdecode_backend='cv2'), '.tif', np.uint16),
    (dict(imdecode_backend='cv2'), '.tif', np.float32)], ids=str)
def test_deep_images_are_read_as_the_config_says(pair, tmp_path, kind, step, suffix, dtype):
    pixels = (np.random.rand(24, 32) * 40000).astype(dtype)
    pair(pixels, suffix=suffix)
    if kind != OWN:
        step = dict(imdecode_backend='pillow') | step
    settings = dataset(tmp_path, kind, {**UNCHANGED, **step}, img_suffixes=[suffix])
    if kind != OWN:
        settings['img_suffix'] = settings.pop('img_suffixes')[0]
    opened = DATASETS.build(settings)
    check_sample('the set', opened)
    report = check_dataset(opened, 'the set')
    assert not report.errors and report.mean == [pytest.approx(pixels.mean(), rel=1e-3)]
    np.testing.assert_allclose(opened[0]['img'].reshape(24, 32), pixels)


def test_deep_images_that_would_be_clipped_are_refused(pair, tmp_path):
    path = pair(np.full((24, 32), 40000, np.uint16), suffix='.png')
    assert found(dataset(tmp_path)) == {'more than 8 bits': [
        f'image {path} cannot be read (mode I;16, expected 8 bits per channel); convert it, or let LoadImageFromFile read it '
        'as it is with color_type="unchanged"']}


def test_float_images_that_are_asked_for_are_given(pair, tmp_path):
    pair()
    assert DATASETS.build(dataset(tmp_path, image=dict(PLAIN, to_float32=True)))[0]['img'].dtype == np.float32


def test_pixels_that_are_not_finite(pair, tmp_path):
    pixels = np.zeros((24, 32), np.float32)
    pixels[3, 4] = np.nan
    path = pair(pixels, suffix='.tif')
    assert found(dataset(tmp_path, image=UNCHANGED)) == {
        'not finite': [f'image {path} has pixels that are NaN or infinite; replace them']}


def test_images_of_other_channels_than_the_first(pair, tmp_path):
    first = pair(suffix='.png')
    other = pair(np.zeros((24, 32), np.uint8), name='b', suffix='.png')
    assert found(dataset(tmp_path, image=UNCHANGED)) == {'other channels': [
        f'image {other} has 1 channel(s), {first} has 3; load all with the same, e.g. by color_type="color"']}


@TRANSFORMS.register_module()
class ReadTwice(BaseTransform):
    """A step of a user's own that loads images."""

    def transform(self, results: dict) -> dict:
        """Two channels out of a file of one."""
        image = cv2.imread(results['img_path'], cv2.IMREAD_UNCHANGED)
        if image is None:
            raise RuntimeError('not mine')
        return dict(results, img=np.stack([image, image], axis=2), img_shape=image.shape, ori_shape=image.shape)


@TRANSFORMS.register_module()
class LoadColors(BaseTransform):
    """A step of a user's own that loads labels."""

    def transform(self, results: dict) -> dict:
        """Class indices out of the red of colors."""
        results['gt_seg_map'] = cv2.imread(results['seg_map_path'])[..., 2] // 80
        return results


def test_steps_of_ones_own(pair, tmp_path):
    colors = np.zeros((24, 32, 3), np.uint8)
    colors[..., 2] = LABELS * 80
    path = pair(np.zeros((24, 32), np.uint8), colors)
    settings = dataset(tmp_path, 'BaseSegDataset', dict(type='ReadTwice'), dict(type='LoadColors'))
    report = check_dataset(DATASETS.build(settings), 'the set')
    assert not report.errors and report.mean == [0, 0] and report.pixels[:3] == [256, 256, 256]
    colors[0, 0, 2] = 255
    write(tmp_path / 'labels/a.png', colors)
    assert found(settings) == {'unknown values': [
        f'label {tmp_path / "labels/a.png"} has values outside the classes after LoadColors: 3; expected 0 to 2, 255; correct '
        'the label or the classes of the dataset']}
    path.write_bytes(b'text')
    assert found(settings) == {'unreadable image': [f'image {path} cannot be read (not mine); replace or remove it']}


@pytest.mark.parametrize('ending', ['.jpg', '.png'])
def test_cut_short_image_of_mmsegmentations(pair, tmp_path, ending):
    path = pair(suffix=ending)
    path.write_bytes(path.read_bytes()[:-200])
    assert set(found(dataset(tmp_path, 'BaseSegDataset', img_suffix=ending))) == {'unreadable image'}
    with pytest.raises(OSError, match='truncated'):  # OpenCV before 5 fills what is missing with gray.
        verify(path.read_bytes())


@pytest.mark.parametrize(('reduced', 'values', 'kind'), [
    (False, (0, 1, 2, 255), None), (False, (1, 2, 3), 'off by one'), (False, (0, 7), 'unknown values'),
    (True, (0, 1, 2, 3, 255), None), (True, (4, ), 'unknown values')])
def test_values_of_mmsegmentations_labels(pair, tmp_path, reduced, values, kind):
    pair(labels=np.resize(np.array(values, np.uint8), (24, 32)))
    settings = dataset(tmp_path, 'BaseSegDataset', reduce_zero_label=reduced)
    assert set(found(settings)) == ({kind} if kind else set())
    opened = DATASETS.build(settings)
    if kind is None:
        assert set(np.unique(opened[0]['gt_seg_map']).tolist()) == {0, 1, 2, 255}


@pytest.mark.parametrize(('value', 'kind'), [(2, None), (300, 'more than 8 bits')])
def test_mmsegmentations_labels_of_16_bits(pair, tmp_path, value, kind):
    """It reads them, but 300 becomes 44."""
    pair(labels=LABELS.astype(np.uint16) // 2 * value)
    assert set(found(dataset(tmp_path, 'BaseSegDataset'))) == ({kind} if kind else set())


def test_step_and_dataset_that_contradict_each_other(pair, tmp_path):
    pair()
    label = dict(type='LoadAnnotations', reduce_zero_label=True)
    assert found(dataset(tmp_path, 'BaseSegDataset', label=label)) == {'reduce_zero_label': [
        'LoadAnnotations has reduce_zero_label=True, its dataset BaseSegDataset has False; set it in the dataset alone']}


def test_missing_files_of_mmsegmentations_are_found_before_training(pair, tmp_path):
    for name in 'ab':
        pair(name=name)
    opened = DATASETS.build(dataset(tmp_path, 'BaseSegDataset'))
    (tmp_path / 'labels/b.png').unlink()
    message = f'1 files of the training set do not exist: {tmp_path / "labels/b.png"}; complete the dataset'
    with pytest.raises(DataError, match=f'^{re.escape(message)}$'):
        check_sample('the training set', opened)


@pytest.mark.parametrize('wrap', [
    lambda dataset: dataset, lambda dataset: dict(type='RepeatDataset', times=4000, dataset=dataset),
    lambda dataset: dict(type='MultiImageMixDataset', pipeline=[], dataset=dataset),
], ids=['concatenated', 'repeated', 'mixed'])
def test_wrappers_are_looked_into(pair, tmp_path, wrap):
    """Each image once, and each by the rules of its own dataset."""
    for name in 'abc':
        pair(name=name)
    pair(labels=np.full((24, 32), 3, np.uint8), name='d')
    both = [dataset(tmp_path), dataset(tmp_path, 'BaseSegDataset', reduce_zero_label=True)]
    opened = DATASETS.build(wrap(dict(type='ConcatDataset', datasets=both, ignore_keys=['reduce_zero_label'])))
    assert [type(leaf).__name__ for leaf in leaves(opened)] == ['PairedSegDataset', 'BaseSegDataset']
    report = check_dataset(opened, 'the set')
    assert (report.images, report.read, sum(report.sizes.values())) == (8, 8, 7) and set(report.errors) == {'unknown values'}


def in_time(call, *arguments) -> BaseException | None:
    """What a call raises; fails where it waits for a pipe."""
    raised = []

    def run() -> None:
        try:
            call(*arguments)
        except DataError as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive(), 'it waits'
    return raised[0] if raised else None


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_device(path: Path) -> None:
    path.symlink_to('/dev/zero')


def link_to_pipe(path: Path) -> None:
    os.mkfifo(path.with_suffix('.pipe'))
    path.symlink_to(path.with_suffix('.pipe'))


@pytest.mark.situation('Hostile or broken files', 'a pipe, a device or a link to one among images and labels',
                       before='training and check_data.py waited forever', now='left out and named, or one line')
@pytest.mark.parametrize('make', [pipe, link_to_device, link_to_pipe])
def test_pipes_and_devices_are_not_waited_for(pair, tmp_path, make):
    pair()
    make(tmp_path / 'images/b.jpg')
    assert len(DATASETS.build(dataset(tmp_path))) == 1
    make(tmp_path / 'labels/b.png')
    (tmp_path / 'images/b.jpg').unlink()
    write(tmp_path / 'images/b.jpg', np.zeros((24, 32, 3), np.uint8))
    assert '1 of 2 images have no label' in str(in_time(DATASETS.build, dataset(tmp_path)))
    stock = DATASETS.build(dataset(tmp_path, 'BaseSegDataset'))
    message = f'label {tmp_path / "labels/b.png"} is a pipe, a socket or a device, not a file; remove it'
    assert str(in_time(check_sample, 'the set', stock)) == message
    assert check_dataset(stock, 'the set').messages['no label file'] == [message]


@pytest.mark.parametrize('make', [pipe, link_to_device])
def test_pipes_and_devices_are_not_read(tmp_path, make):
    path = tmp_path / 'a.png'
    make(path)
    ending = f'{path} is a pipe, a socket or a device, not a file; remove it'
    assert str(in_time(LoadImage().transform, dict(img_path=str(path)))) == f'image {ending}'
    sample = dict(seg_map_path=str(path), label_map={}, ori_shape=(24, 32), seg_fields=[])
    assert str(in_time(LoadLabels().transform, sample)) == f'label {ending}'


def test_bombs_are_refused_by_every_backend(tmp_path):
    from test_bad_files import bomb
    path = tmp_path / 'a.png'
    path.write_bytes(bomb(60000))
    for options in (dict(), dict(imdecode_backend='cv2'), dict(color_type='unchanged')):
        with pytest.raises(DataError, match=r'^image \S+a\.png cannot be read \(Image size .* exceeds limit .*\); replace or'):
            LoadImage(**options).transform(dict(img_path=str(path)))


def test_a_link_to_a_sound_file_is_read(pair, tmp_path):
    path = pair()
    Path(tmp_path / 'elsewhere.jpg').write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(tmp_path / 'elsewhere.jpg')
    opened = DATASETS.build(dataset(tmp_path))
    assert len(opened) == 1 and not found(dataset(tmp_path)) and Image.open(path).size == (32, 24)


@pytest.mark.parametrize('options, shown', [({}, False), (dict(progress=False), False), (dict(progress=True), True)], ids=str)
def test_a_bar_is_shown_only_when_asked_for(pair, tmp_path, capsys, options, shown):
    pair()
    check_dataset(DATASETS.build(dataset(tmp_path)), 'the set', **options)
    assert ('the set' in capsys.readouterr().out) == shown
