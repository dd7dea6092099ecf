"""Images on which an exported model is compared with the trained one, and from which its 8-bit ranges are taken."""
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
RANDOM_SIZE = (512, 512)  # Height and width of the check image where there is no real one.


class Source(NamedTuple):
    """An image file.

    Args:
        info: gives what its dataset knows of it, for the first step of a pipeline.
        pipeline: what it goes through, steps as in a config.
    """
    info: Callable[[], dict]
    pipeline: Sequence


def check_images(config: Config, images: str | None, channels: int = 3,
                 normalized: bool = True) -> tuple[list[np.ndarray], bool]:
    """Images for a comparison, as the config's test pipeline gives them to the model.

    Args:
        config: the whole config.
        images: image, folder or glob pattern; by default the test set, and where that is absent a random image.
        channels: of the random image.
        normalized: go through the pipeline's ``Normalize`` steps too, where it has some.

    Returns:
        Images (H, W, C), uint8 and BGR unless the pipeline makes something else of them, at most a test window large, and
        whether they are real ones.
    """
    sources = files(config, images) if images else sources_of(config, config.test_dataloader.dataset)
    if not sources:
        return [np.random.default_rng(0).integers(0, 256, (*RANDOM_SIZE, channels), np.uint8)], False
    return read(config, spread(sources, CHECKED_IMAGES), normalized), True


def calibration_images(config: Config, images: str | None, count: int = CALIBRATION_IMAGES) -> list[np.ndarray]:
    """Real images like those that the model will see, of which it has seen none for the check.

    Args:
        config: the whole config.
        images: image, folder or glob pattern; by default the training set.
        count: largest number of images.

    Returns:
        At most ``count`` images, as :func:`check_images` returns them, not normalized.

    Raises:
        UserError: there are none.
    """
    sources = files(config, images) if images else [source._replace(pipeline=test_pipeline(config)) for source in
                                                    sources_of(config, config.train_dataloader.dataset)]
    if not sources:
        raise UserError('int8 is calibrated on real images, but the training set is not on this machine; give some tens of '
                        'images of the kind with --calibration FOLDER')
    return read(config, spread(sources, count), normalized=False)


def files(config: Config, images: str) -> list[Source]:
    """Image files that the user names."""
    return [Source(partial(dict, img_path=str(path), seg_fields=[], label_map=None, reduce_zero_label=False),
                   test_pipeline(config)) for path in list_images(images)]


def sources_of(config: Config, dataset: Mapping) -> list[Source]:
    """The images of a dataset or of those in a wrapper, as far as they are on this machine; no labels are needed.

    Raises:
        UserError: a dataset is there, but cannot be opened.
    """
    init_default_scope(config.get('default_scope', 'mmseg'))
    found = []
    for part in datasets_in(dataset):
        if is_here(part):
            opened = open_images(part)
            found += [Source(partial(opened.get_data_info, index), part['pipeline']) for index in range(len(opened))]
    return found


def is_here(dataset: Mapping, key: str = 'img_path') -> bool:
    """Whether the folder of a dataset's images, or of what else ``data_prefix`` names by ``key``, can be seen from here."""
    prefix = dataset.get('data_prefix') or {}
    folder = prefix.get(key) if isinstance(prefix, Mapping) else prefix
    root = dataset.get('data_root') or ''
    return bool(root or folder) and mmengine.fileio.exists(
        mmengine.fileio.join_path(root, folder or ''), backend_args=dataset.get('backend_args'))


def open_images(dataset: Mapping) -> BaseDataset:
    """A dataset that lists its images, also without their labels where it is ours.

    Raises:
        UserError: it cannot be opened.
    """
    from ..datasets.paired import PairedSegDataset
    settings = dict(dataset, pipeline=[], lazy_init=False)
    kind = class_of(dataset)
    if issubclass(kind, PairedSegDataset):
        settings['data_prefix'] = dict(dataset['data_prefix'], seg_map_path=None)
    try:
        return DATASETS.build(settings)
    except (AssertionError, OSError) as error:  # By which MMSegmentation's datasets say that files are missing.
        raise UserError(f'the images of {kind.__name__} in {dataset.get("data_root")} cannot be listed '
                        f'({str(error) or "its files are incomplete"}); complete the dataset, or give images with --images and '
                        '--calibration') from None


def spread(items: Sequence, count: int) -> Sequence:
    """At most ``count`` of some items, at equal distances."""
    return items[::-(-len(items) // count)]


def read(config: Config, sources: Sequence[Source], normalized: bool) -> list[np.ndarray]:
    """Images as :func:`check_images` returns them; where a segmentor is tested in windows, one anywhere in each.

    Raises:
        UserError: a pipeline gives several images of one.
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
    """A picture (H, W, C) at a size: cut out of it where it is large enough, else resized."""
    if picture.shape[0] < size[0] or picture.shape[1] < size[1]:
        resized = cv2.resize(picture, (max(size[1], picture.shape[1]), max(size[0], picture.shape[0])))
        picture = resized.reshape(*resized.shape[:2], picture.shape[2])  # OpenCV drops the axis of a single channel.
    return np.ascontiguousarray(picture[:size[0], :size[1]])
