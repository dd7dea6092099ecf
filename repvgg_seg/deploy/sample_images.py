"""Images on which an exported model is compared with the trained one, and from which its 8-bit ranges are taken."""
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from ..datasets.loading import image_pipeline
from ..errors import UserError
from ..images import list_images

CHECKED_IMAGES = 4
CALIBRATION_IMAGES = 64
RANDOM_SIZE = (512, 512)  # Height and width of the check image where there is no real one.


def check_images(config: Config, images: str | None) -> tuple[list[np.ndarray], bool]:
    """Images for a comparison, as the config's test pipeline gives them to the model.

    Args:
        config: the whole config.
        images: image, folder or glob pattern; by default the test set, and where that is absent a random image.

    Returns:
        Images uint8 BGR (H, W, 3), at most a test window large, and whether they are real ones.
    """
    paths = list_images(images) if images else images_of(config.test_dataloader.dataset)
    if not paths:
        return [np.random.default_rng(0).integers(0, 256, (*RANDOM_SIZE, 3), np.uint8)], False
    return read(config, spread(paths, CHECKED_IMAGES)), True


def calibration_images(config: Config, images: str | None) -> list[np.ndarray]:
    """Real images like those that the model will see, of which it has seen none for the check.

    Args:
        config: the whole config.
        images: image, folder or glob pattern; by default the training set.

    Returns:
        At most ``CALIBRATION_IMAGES``, as :func:`check_images` returns them.

    Raises:
        UserError: there are none.
    """
    paths = list_images(images) if images else images_of(config.train_dataloader.dataset)
    if not paths:
        raise UserError('int8 is calibrated on real images, but the training set is not on this machine; give some tens of '
                        'images of the kind with --calibration FOLDER')
    return read(config, spread(paths, CALIBRATION_IMAGES))


def images_of(dataset: dict) -> list[Path]:
    """Paths of the images of a data set's config; empty where it is not on this machine, or a wrapper of others."""
    prefix = (dataset.get('data_prefix') or {}).get('img_path')
    if prefix is None:
        return []
    folder = Path(dataset.get('data_root') or '', prefix)
    return list_images(str(folder)) if folder.is_dir() else []


def spread(paths: Sequence[Path], count: int) -> Sequence[Path]:
    """At most ``count`` of the paths, at equal distances."""
    return paths[::-(-len(paths) // count)]


def read(config: Config, paths: Sequence[Path]) -> list[np.ndarray]:
    """Images uint8 BGR (H, W, 3) after the test pipeline; where a segmentor is tested in windows, one anywhere in each."""
    init_default_scope(config.get('default_scope', 'mmseg'))
    pipeline = Compose(image_pipeline(config.test_dataloader.dataset.pipeline))
    window = (config.model.get('test_cfg') or {}).get('crop_size')
    random, chosen = np.random.default_rng(0), []
    for path in paths:
        data = pipeline(dict(img_path=str(path), seg_fields=[], label_map=None, reduce_zero_label=False))
        picture = data['inputs'].numpy().transpose(1, 2, 0)
        if window:
            top, left = (random.integers(max(size - limit, 0) + 1) for size, limit in zip(picture.shape, window))
            picture = picture[top:top + window[0], left:left + window[1]]
        chosen.append(np.ascontiguousarray(picture))
    return chosen


def crop_or_enlarge(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture (H, W, 3) at a size: cut out of it where it is large enough, else resized."""
    if picture.shape[0] < size[0] or picture.shape[1] < size[1]:
        picture = cv2.resize(picture, (max(size[1], picture.shape[1]), max(size[0], picture.shape[0])))
    return np.ascontiguousarray(picture[:size[0], :size[1]])
