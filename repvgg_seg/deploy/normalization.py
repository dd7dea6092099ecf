"""Normalization of an image's pixels before they reach the network."""
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose

from ..core.config_types import type_name
from ..core.errors import UserError
from ..datasets.loading import image_pipeline
from ..engine.dataset_configs import test_pipeline
from ..engine.model_check import channels_of, preprocessor_of
from ..engine.pipelines import without_normalize


@dataclass(frozen=True)
class Normalization:
    """Normalization that becomes part of an exported graph.

    Args:
        channels: number of channels of the images.
        mean, std: mean and standard deviation on the scale 0 to 255, one value per channel in the network's order or one for
            all channels; None to skip them.
        to_rgb: whether the network takes RGB rather than BGR, the order in which images are read.
    """
    channels: int = 3
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    to_rgb: bool = False


def normalization_of(config: Config) -> Normalization:
    """Read the normalization from a config's ``data_preprocessor`` or from the ``Normalize`` step of its test pipeline.

    Raises:
        UserError: the config normalizes images several times.
    """
    preprocessor, channels = preprocessor_of(config), channels_of(config.model)
    # MMSegmentation (first two keys) and MMPretrain (third) only reorder the channels of three-channel images.
    flips = channels == 3 and any(preprocessor.get(key) for key in ('bgr_to_rgb', 'rgb_to_bgr', 'to_rgb'))
    mean, std = preprocessor.get('mean'), preprocessor.get('std')
    steps = without_normalize(test_pipeline(config))[1]
    if len(steps) + (mean is not None) > 1:
        raise UserError('images are normalized several times, by Normalize in the test pipeline and model.data_preprocessor or '
                        'by several Normalize steps, which cannot be exported; leave one of them and train again')
    if steps:
        mean, std = steps[0]['mean'], steps[0]['std']
        if flips:  # The preprocessor reorders channels after this step, whose values are in the order before it.
            mean, std = mean[::-1], std[::-1]
        flips = flips != (channels == 3 and steps[0].get('to_rgb', True))
    return Normalization(channels, mean and tuple(mean), std and tuple(std), flips)


def normalizer(config: Config) -> Callable[[np.ndarray], np.ndarray]:
    """Return the ``Normalize`` step of a config's test pipeline as a function of images, uint8 (H, W, C).

    If the pipeline has no such step, the function returns images unchanged.
    """
    steps = without_normalize(test_pipeline(config))[1]
    compose = Compose(steps)

    def normalize(picture: np.ndarray) -> np.ndarray:
        image = picture[..., 0] if picture.shape[2] == 1 else picture  # Single-channel images are loaded in this form.
        return compose(dict(img=image))['img'].reshape(picture.shape)

    return normalize if steps else lambda picture: picture


def left_out(config: Config) -> list[str]:
    """Names of the test pipeline's steps that change images and that exported files do not include."""
    names = map(type_name, image_pipeline(test_pipeline(config)))
    return [name for name in names if not name.startswith(('Load', 'Pack')) and name != 'Normalize']
