"""Images for checks and for calibration come from where they should."""
import numpy as np
import pytest
from mmengine.config import Config
from tiny import write_noise

from repvgg_seg.deploy.sample_images import CALIBRATION_IMAGES, calibration_images, check_images, images_of, read, spread
from repvgg_seg.errors import UserError


@pytest.fixture
def config(tmp_path):
    """Training and test images of 40x48 pixels."""
    write_noise(tmp_path, ['red'], train=3, val=2)
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs', meta_keys=())]
    train, test = (dict(dataset=dict(data_root=str(tmp_path), data_prefix=dict(img_path=folder), pipeline=pipeline))
                   for folder in ('train', 'val'))
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


def test_a_wrapper_of_data_sets_is_not_the_current_folder():
    assert images_of(dict(type='ConcatDataset', datasets=[])) == []


def test_windows_lie_anywhere_in_the_image(config, tmp_path):
    config.model.test_cfg = dict(mode='slide', crop_size=(30, 64), stride=(20, 40))
    paths = images_of(config.train_dataloader.dataset)
    windows = read(config, paths * 4)
    assert {window.shape for window in windows} == {(30, 48, 3)}
    config.model.test_cfg = dict()
    whole = read(config, paths[:1])[0]
    tops = {top for window in windows[::3] for top in range(11) if (whole[top:top + 30] == window).all()}
    assert len(tops) > 1


def test_spread():
    assert spread(range(101), 4) == range(0, 101, 26) and len(spread(range(3), 4)) == 3
    assert all(len(spread(range(count), CALIBRATION_IMAGES)) <= CALIBRATION_IMAGES for count in range(1, 500))
