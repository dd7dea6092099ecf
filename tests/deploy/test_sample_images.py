"""Images for checks and for calibration come from where they should."""
import re

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from tiny import write_noise

from repvgg_seg.core.errors import UserError
from repvgg_seg.core.images import list_images
from repvgg_seg.deploy.sample_images import (
    CALIBRATION_IMAGES,
    calibration_images,
    check_images,
    crop_or_enlarge,
    read,
    sources_of,
    spread,
)


@pytest.fixture
def config(tmp_path):
    """Training and test images of 40x48 pixels."""
    write_noise(tmp_path, ['red'], train=3, val=2)
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs', meta_keys=())]
    train, test = (dict(dataset=dict(type='BaseSegDataset', data_root=str(tmp_path), data_prefix=dict(img_path=folder),
                                     img_suffix='.png', pipeline=pipeline)) for folder in ('train', 'val'))
    return Config(dict(default_scope='mmseg', model=dict(), train_dataloader=train, test_dataloader=test))


def test_the_test_set_is_checked_and_the_training_set_calibrates(config):
    checked, real = check_images(config, None)
    assert real and len(checked) == 2 and {picture.shape for picture in checked} == {(40, 48, 3)}
    calibration = calibration_images(config, None)
    assert len(calibration) == 3 and calibration[0].dtype == np.uint8
    assert not any((one == other).all() for one in calibration for other in checked)
    # BGR: the images are tinted red.
    assert calibration[0][..., 2].mean() > calibration[0][..., 0].mean() + 100


def test_images_that_are_given_are_taken(config, tmp_path):
    assert len(check_images(config, str(tmp_path / 'train'))[0]) == 3
    assert len(calibration_images(config, str(tmp_path / 'val'))) == 2


def test_without_a_data_set(config):
    for loader in (config.train_dataloader, config.test_dataloader):
        loader.dataset.data_root = 'absent'
    checked, real = check_images(config, None)
    assert not real and len(checked) == 1
    with pytest.raises(UserError, match='int8 is calibrated on real images, .* give some .* with --calibration FOLDER'):
        calibration_images(config, None)


def test_an_empty_wrapper_is_not_the_current_folder(config):
    assert sources_of(config, dict(type='ConcatDataset', datasets=[])) == []


WRAPPERS = {
    'concatenated': lambda dataset: dict(type='ConcatDataset', datasets=[dataset, dict(dataset, data_root='absent')]),
    'repeated': lambda dataset: dict(type='RepeatDataset', times=9, dataset=dataset),
    'balanced': lambda dataset: dict(type='ClassBalancedDataset', oversample_thr=0.1, dataset=dataset),
    'mixed': lambda dataset: dict(type='MultiImageMixDataset', pipeline=[dict(type='RandomMosaic', prob=1)], dataset=dataset),
    'nested': lambda dataset: dict(type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[
        dict(type='RepeatDataset', times=2, dataset=dataset)])),
}


@pytest.mark.situation('Tracebacks', 'the test set is a ConcatDataset (deploy, predict)',
                       before="AttributeError: 'ConfigDict' object has no attribute 'pipeline'",
                       now='images, classes and pipeline are those of the datasets inside, through any wrappers')
@pytest.mark.situation('Tracebacks', 'int8 with a training set inside RepeatDataset, MultiImageMixDataset or ConcatDataset',
                       before='refused, because "the training set is not on this machine"',
                       now='calibrated on the images of the datasets inside')
@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_images_inside_wrappers(config, wrapper):
    expected = check_images(config, None)[0], calibration_images(config, None)
    for loader in (config.train_dataloader, config.test_dataloader):
        loader.dataset = WRAPPERS[wrapper](loader.dataset)
    found = check_images(config, None)[0], calibration_images(config, None)
    for ours, theirs in zip(found, expected):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.situation('Tracebacks', 'a dataset whose images are listed in `ann_file`, such as VOC',
                       before='images outside the list were taken for the check and for calibration',
                       now='the images of the list')
def test_images_are_those_that_the_dataset_lists(config, tmp_path):
    (tmp_path / 'split.txt').write_text('red/1\n')
    expected = check_images(config, None)[0][1]
    config.test_dataloader.dataset.update(type='PascalVOCDataset', ann_file='split.txt')
    found, real = check_images(config, None)
    assert real and len(found) == 1
    np.testing.assert_array_equal(found[0], expected)
    (tmp_path / 'split.txt').unlink()
    message = (f'the images of PascalVOCDataset in {tmp_path} cannot be listed (Failed to load `ann_file` '
               f'{tmp_path}/split.txt); complete the dataset, or give images with --images and --calibration')
    with pytest.raises(UserError, match=f'{re.escape(message)}$'):
        check_images(config, None)


def test_every_image_goes_through_the_pipeline_of_its_own_dataset(config):
    plain = config.test_dataloader.dataset
    resizing = dict(plain, pipeline=[plain.pipeline[0], dict(type='Resize', scale=(24, 20)), plain.pipeline[1]])
    config.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[plain, resizing])
    shapes = [picture.shape for picture in check_images(config, None)[0]]
    assert shapes == [(40, 48, 3)] * 2 + [(20, 24, 3)] * 2
    assert {picture.shape for picture in calibration_images(config, None)} == {(40, 48, 3)}, 'by the first of the test set'


@pytest.mark.parametrize('channels', [1, 4])
def test_other_channels_than_three(config, channels):
    color_type = {1: 'grayscale', 4: 'unchanged'}[channels]
    config.test_dataloader.dataset.pipeline[0].color_type = color_type
    for path in list_images(config.test_dataloader.dataset.data_root):
        Image.open(path).convert('RGBA').save(path)
    shapes = {picture.shape for picture in check_images(config, None)[0]}
    assert shapes == {(40, 48, channels)}
    config.test_dataloader.dataset.data_root = 'absent'
    (random, ), _ = check_images(config, None, channels)
    assert random.shape[2] == channels
    assert crop_or_enlarge(random[:10], (20, 30)).shape == (20, 30, channels)


def test_normalize_is_left_out_on_request(config):
    raw = check_images(config, None)[0][0]
    config.test_dataloader.dataset.pipeline.insert(1, dict(type='Normalize', mean=[1, 2, 3], std=[4, 4, 4], to_rgb=True))
    np.testing.assert_array_equal(check_images(config, None, normalized=False)[0][0], raw)
    normalized = check_images(config, None)[0][0]
    np.testing.assert_allclose(normalized, (raw[..., ::-1] - np.float32([1, 2, 3])) / 4, rtol=1e-6)
    np.testing.assert_array_equal(calibration_images(config, None)[0].dtype, np.uint8)


def test_windows_lie_anywhere_in_the_image(config):
    config.model.test_cfg = dict(mode='slide', crop_size=(30, 64), stride=(20, 40))
    sources = sources_of(config, config.train_dataloader.dataset)
    windows = read(config, sources * 4, normalized=True)
    assert {window.shape for window in windows} == {(30, 48, 3)}
    config.model.test_cfg = dict()
    whole = read(config, sources[:1], normalized=True)[0]
    tops = {top for window in windows[::3] for top in range(11) if (whole[top:top + 30] == window).all()}
    assert len(tops) > 1


def test_spread():
    assert spread(range(101), 4) == range(0, 101, 26) and len(spread(range(3), 4)) == 3
    assert all(len(spread(range(count), CALIBRATION_IMAGES)) <= CALIBRATION_IMAGES for count in range(1, 500))
