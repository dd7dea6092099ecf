"""Sizes of images, and the mean and standard deviation of their pixels."""
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...core.errors import DataError
from ..loading import UNREADABLE, reason_of

LOOKED_AT = 100  # Maximum number of images whose pixels are read, evenly distributed.
THUMBNAIL = (256, 256)


@dataclass(frozen=True)
class Pixels:
    """Statistics of images.

    Args:
        sizes: number of images of each (height, width), among those that were read.
        mean, std: mean and standard deviation of red, green and blue, 0 to 255.
    """
    sizes: Counter[tuple[int, int]]
    mean: list[float]
    std: list[float]

    def usual_size(self) -> tuple[int, int]:
        """Medians of height and width."""
        heights, widths = np.array([*self.sizes.elements()]).T
        return int(np.median(heights)), int(np.median(widths))


def measure(images: Sequence[Path]) -> Pixels:
    """Measure the sizes and pixel statistics of images.

    Raises:
        DataError: an image cannot be read.
    """
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(_measure, images[::-(-len(images) // LOOKED_AT)]))
    moments = np.sum([moments for _, moments in found], axis=0)
    mean = moments[1] / moments[0]
    return Pixels(Counter(size for size, _ in found), mean.round(2).tolist(),
                  np.sqrt(moments[2] / moments[0] - mean**2).round(2).tolist())


def _measure(path: Path) -> tuple[tuple[int, int], np.ndarray]:
    """Height and width, and for each channel the number of pixels, their sum, and the sum of their squares."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            image.thumbnail(THUMBNAIL, Image.Resampling.NEAREST)
            pixels = np.array(image.convert('RGB'), np.float64).reshape(-1, 3)
    except UNREADABLE as error:
        raise DataError(f'image {path} cannot be read ({reason_of(error)}); replace or remove it') from None
    return (height, width), np.stack([np.full(3, len(pixels)), pixels.sum(0), (pixels**2).sum(0)])
