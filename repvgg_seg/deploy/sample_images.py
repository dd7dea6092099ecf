"""Images for comparing an exported model with the trained one, and for calibrating its 8-bit ranges."""
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import cv2
import mmengine.fileio
import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset, Compose
from mmengine.registry import DATASETS, init_default_scope
from torch import Tensor

from ..core.errors import UserError
from ..core.images import list_images
from ..datasets.loading import image_pipeline
from ..engine.dataset_configs import class_of, datasets_in, test_pipeline
from ..engine.pipelines import without_normalize

CHECKED_IMAGES = 4
CALIBRATION_IMAGES = 64
RANDOM_SIZE = (512, 512)  # Height and width of the random image that is used if no real image is available.


class Source(NamedTuple):
    """An image file and the pipeline that reads it.

    Args:
        info: function that returns the dataset's information about the image, the input of the pipeline's first step.
        pipeline: steps of the pipeline, as in a config.
    """
    info: Callable[[], dict]
    pipeline: Sequence


def check_images(config: Config, images: str | None, channels: int = 3,
                 normalized: bool = True) -> tuple[list[np.ndarray], bool]:
    """Read images for a comparison, in the form in which the config's test pipeline passes them to the model.

    Args:
        config: full config.
        images: image, folder, or glob pattern; by default the test set, or a random image if there is no test set.
        channels: number of channels of the random image.
        normalized: whether to apply the pipeline's ``Normalize`` steps, if it has any.

    Returns:
        The images (H, W, C), and whether they are real. The images are uint8 and BGR unless the pipeline converts them, and at
        most as large as a test window.
    """
    sources = files(config, images) if images else sources_of(config, config.test_dataloader.dataset)
    if not sources:
        return [np.random.default_rng(0).integers(0, 256, (*RANDOM_SIZE, channels), np.uint8)], False
    return read(config, spread(sources, CHECKED_IMAGES), normalized), True


def calibration_images(config: Config, images: str | None, count: int = CALIBRATION_IMAGES) -> list[np.ndarray]:
    """Read real images for calibration, similar to those that the model will see, but not those of the check.

    Args:
        config: full config.
        images: image, folder, or glob pattern; by default the training set.
        count: largest number of images.

    Returns:
        At most ``count`` images, in the form that :func:`check_images` returns, not normalized.

    Raises:
        UserError: no images are available.
    """
    sources = files(config, images) if images else [source._replace(pipeline=test_pipeline(config)) for source in
                                                    sources_of(config, config.train_dataloader.dataset)]
    if not sources:
        raise UserError('int8 is calibrated on real images, but the training set is not on this machine; give some tens of '
                        'images of the kind with --calibration FOLDER')
    return read(config, spread(sources, count), normalized=False)


def files(config: Config, images: str) -> list[Source]:
    """List image files that the user specifies."""
    return [Source(partial(dict, img_path=str(path), seg_fields=[], label_map=None, reduce_zero_label=False),
                   test_pipeline(config)) for path in list_images(images)]


def sources_of(config: Config, dataset: Mapping) -> list[Source]:
    """List the images of a dataset, or of all datasets in a wrapper, that are on this machine. Labels are not needed.

    Raises:
        UserError: a dataset exists but cannot be opened.
    """
    init_default_scope(config.get('default_scope', 'mmseg'))
    found = []
    for part in datasets_in(dataset):
        if is_here(part):
            opened = open_images(part)
            found += [Source(partial(opened.get_data_info, index), part['pipeline']) for index in range(len(opened))]
    return found


def is_here(dataset: Mapping, key: str = 'img_path') -> bool:
    """Whether a dataset's image folder, or another folder that ``data_prefix`` lists under ``key``, is accessible."""
    prefix = dataset.get('data_prefix') or {}
    folder = prefix.get(key) if isinstance(prefix, Mapping) else prefix
    root = dataset.get('data_root') or ''
    return bool(root or folder) and mmengine.fileio.exists(
        mmengine.fileio.join_path(root, folder or ''), backend_args=dataset.get('backend_args'))


def open_images(dataset: Mapping) -> BaseDataset:
    """Build a dataset that lists its images. Datasets of this package do not need labels for that.

    Raises:
        UserError: the dataset cannot be opened.
    """
    from ..datasets.paired import PairedSegDataset
    settings = dict(dataset, pipeline=[], lazy_init=False)
    kind = class_of(dataset)
    if issubclass(kind, PairedSegDataset):
        settings['data_prefix'] = dict(dataset['data_prefix'], seg_map_path=None)
    try:
        return DATASETS.build(settings)
    except (AssertionError, OSError) as error:  # MMSegmentation's datasets raise these if files are missing.
        raise UserError(f'the images of {kind.__name__} in {dataset.get("data_root")} cannot be listed '
                        f'({str(error) or "its files are incomplete"}); complete the dataset, or give images with --images and '
                        '--calibration') from None


def spread(items: Sequence, count: int) -> Sequence:
    """Select at most ``count`` evenly spaced items."""
    return items[::-(-len(items) // count)]


def read(config: Config, sources: Sequence[Source], normalized: bool) -> list[np.ndarray]:
    """Read images in the form that :func:`check_images` returns.

    If the segmentor is tested with a sliding window, one window at a random position is cut out of each image.

    Raises:
        UserError: a pipeline produces several images from one.
    """
    init_default_scope(config.get('default_scope', 'mmseg'))
    window = (config.model.get('test_cfg') or {}).get('crop_size')
    random, chosen = np.random.default_rng(0), []
    for source in sources:
        pipeline = image_pipeline(source.pipeline if normalized else without_normalize(source.pipeline)[0])
        inputs = Compose(pipeline)(source.info())['inputs']
        if not isinstance(inputs, Tensor):
            raise UserError('the test pipeline makes several images of one (TestTimeAug); leave that to tta_pipeline')
        picture = inputs.numpy().transpose(1, 2, 0)
        if window:
            top, left = (random.integers(max(size - limit, 0) + 1) for size, limit in zip(picture.shape, window))
            picture = picture[top:top + window[0], left:left + window[1]]
        chosen.append(np.ascontiguousarray(picture))
    return chosen


def crop_or_enlarge(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bring a picture (H, W, C) to a size: crop it if it is large enough; otherwise enlarge it first."""
    if picture.shape[0] < size[0] or picture.shape[1] < size[1]:
        resized = cv2.resize(picture, (max(size[1], picture.shape[1]), max(size[0], picture.shape[0])))
        picture = resized.reshape(*resized.shape[:2], picture.shape[2])  # OpenCV drops the axis of a single channel.
    return np.ascontiguousarray(picture[:size[0], :size[1]])
