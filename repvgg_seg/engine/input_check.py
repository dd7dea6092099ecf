"""Check whether a model accepts the images that the pipelines of a config produce."""
from collections.abc import Mapping, Sequence

import numpy as np
from mmengine.config import Config
from mmengine.logging import MMLogger
from torch import Tensor
from torch.utils.data import DataLoader

from ..core.config_types import type_name
from ..core.errors import UserError
from ..datasets.checking import SAMPLE
from ..datasets.wrappers import leaves
from .model_check import channels_of
from .seeded_data import unwrapped


def check_inputs(name: str, loader: DataLoader, config: Config, training: bool) -> None:
    """Run a few images of a dataset through its pipeline, and check the results.

    Args:
        name: name of the dataset.
        loader: data loader of the dataset.
        config: complete config.
        training: whether the images must form batches, which requires images of equal size.

    Raises:
        UserError: the backbone expects a different number of channels, or the images cannot form a training batch.
    """
    last, count = len(unwrapped(loader.dataset)) - 1, SAMPLE if training else 1
    indices = np.unique(np.linspace(0, last, min(count, last + 1)).astype(int)).tolist()
    images = [loader.dataset[index]['inputs'] for index in indices]
    if not all(isinstance(image, Tensor) for image in images):  # Several versions of each image, for test-time augmentation.
        return
    expected = channels_of(config.model)
    if other := [len(image) for image in images if len(image) != expected]:
        raise UserError(f'images of {name} have {other[0]} channel(s) after the pipeline, the backbone takes {expected}; set '
                        'model.backbone.in_channels, or color_type of LoadImageFromFile (color, grayscale or unchanged)')
    preprocessor = config.model.get('data_preprocessor') or config.get('data_preprocessor') or {}
    if type_name(preprocessor) != 'SegDataPreProcessor':
        return
    steps = {type(step).__name__ for leaf in leaves(unwrapped(loader.dataset)) for step in leaf.pipeline.transforms}
    if 'Normalize' in steps and preprocessor.get('mean') is not None:
        MMLogger.get_current_instance().warning(
            f'images of {name} are normalized twice, by Normalize in the pipeline and by model.data_preprocessor; remove one')
    if training:
        check_padding(preprocessor, [tuple(image.shape[1:]) for image in images] if loader.batch_size != 1 else [])


def check_padding(preprocessor: Mapping, sizes: Sequence[tuple[int, ...]]) -> None:
    """Check that a preprocessor can form a training batch.

    Args:
        preprocessor: config of a ``SegDataPreProcessor``.
        sizes: heights and widths of training images.

    Raises:
        UserError: both or neither of ``size`` and ``size_divisor`` are given, or images still differ in size after padding.
    """
    size, divisor = preprocessor.get('size'), preprocessor.get('size_divisor')
    if (size is None) == (divisor is None):
        raise UserError(f'model.data_preprocessor has size={size} and size_divisor={divisor}; training needs one of them')
    if size is not None and len(padded := sorted({(max(height, size[0]), max(width, size[1])) for height, width in sizes})) > 1:
        smallest, largest = padded[0], padded[-1]
        raise UserError(f'training images differ in size after the pipeline, {smallest[0]}x{smallest[1]} and {largest[0]}x'
                        f'{largest[1]} when padded to at least {size[0]}x{size[1]} (model.data_preprocessor.size), so they '
                        'cannot form a batch; add RandomCrop or Resize to the pipeline, or use size_divisor in place of size')
