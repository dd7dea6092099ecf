"""Converting the values or colors of label files to class indices; anything unknown is an error."""
from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from ..core.errors import DataError
from .diagnosis import UNKNOWN, diagnose_channels, diagnose_values
from .meanings import Color

LISTED_VALUES = 8  # Maximum number of values listed in an error message.
LISTED_COLORS = 3


def class_indices(path: str, labels: np.ndarray, label_map: Mapping[int, int], shape: tuple[int, int],
                  tolerance: int = 0) -> np.ndarray:
    """Convert the values of a label file to class indices.

    Args:
        path: path of the file, for messages.
        labels: content of the file, (H, W).
        label_map: legal value -> class index, or 255.
        shape: height and width of the image.
        tolerance: largest allowed difference from the nearest legal value.

    Returns:
        Class indices and 255, uint8 (H, W).

    Raises:
        DataError: the labels are colors, differ in size from the image, have more than 8 bits, or contain an illegal value.
    """
    if labels.ndim != 2:
        diagnosis = diagnose_channels(labels)
        raise DataError(f'label {path} is a color image of shape {labels.shape}; expected one channel of class '
                        f'indices: {diagnosis.remedy}', diagnosis.kind)
    check_form(path, labels, shape)
    known = np.array(sorted(label_map))
    distances = abs(np.arange(256)[:, None] - known)
    table = np.array([label_map[value] for value in known.tolist()], np.int16)[distances.argmin(1)]
    table[distances.min(1) > tolerance] = -1
    indices = table[labels]
    if indices.min() < 0:
        wrong = [int(value) for value in np.unique(labels[indices < 0])]
        diagnosis = diagnose_values(np.unique(labels).tolist(), label_map) or UNKNOWN
        raise DataError(
            f'label {path} has values outside the classes: {", ".join(map(str, wrong[:LISTED_VALUES]))}'
            f'{" ..." if len(wrong) > LISTED_VALUES else ""}; expected {ranges(sorted(label_map))}; '
            f'{share(indices < 0)} of its pixels have them; {diagnosis.remedy}', diagnosis.kind)
    return indices.astype(np.uint8)


def color_indices(path: str, labels: np.ndarray, label_map: Mapping[Color, int], shape: tuple[int, int],
                  tolerance: int = 0) -> np.ndarray:
    """Convert the colors of a label file to class indices.

    Args:
        path: path of the file, for messages.
        labels: content of the file, RGB (H, W, 3).
        label_map: known color -> class index, or 255.
        shape: height and width of the image.
        tolerance: largest allowed difference of each channel from the nearest known color.

    Returns:
        Class indices and 255, uint8 (H, W).

    Raises:
        DataError: the labels differ in size from the image, have more than 8 bits, or contain an unknown color.
    """
    check_form(path, labels, shape)
    colors = np.array(sorted(label_map))  # In the order of their codes.
    indices_of_colors = np.array([label_map[tuple(color)] for color in colors.tolist()], np.uint8)
    codes, known = codes_of(labels), codes_of(colors)
    nearest = np.searchsorted(known, codes).clip(max=len(known) - 1)
    unknown = known[nearest] != codes
    if unknown.any():
        others, places, counts = np.unique(codes[unknown], return_inverse=True, return_counts=True)
        distances = abs(colors_of(others)[:, None] - colors).max(2)
        closest = distances.argmin(1)
        if (far := distances.min(1) > tolerance).any():
            most = sorted(np.flatnonzero(far).tolist(), key=lambda place: -counts[place])[:LISTED_COLORS]
            listed = [f'{tuple(colors_of(others[place]).tolist())} in {share(codes == others[place])} of its pixels, nearest '
                      f'to {tuple(colors[closest[place]].tolist())}' for place in most]
            raise DataError(f'label {path} has {far.sum()} colors without a class: {"; ".join(listed)}'
                            f'{"; ..." if far.sum() > LISTED_COLORS else ""}; add them to label_colors, or set label_tolerance '
                            'if the file was saved with losses', 'unknown colors')
        nearest[unknown] = closest[places]
    return indices_of_colors[nearest]


def check_form(path: str, labels: np.ndarray, shape: tuple[int, int]) -> None:
    """Check that labels have the size of their image, and 8 bits per value.

    Raises:
        DataError: the size or the bit depth is wrong.
    """
    if labels.shape[:2] != shape:
        raise DataError(f'label {path} has height and width {labels.shape[:2]}, its image {shape}; they must be equal',
                        'other size')
    if labels.dtype != np.uint8:
        raise DataError(f'label {path} has {8 * labels.itemsize} bits per pixel; expected 8: convert it', 'more than 8 bits')


def codes_of(colors: np.ndarray) -> np.ndarray:
    """Encode each color as one number: int32 (...) from integers (..., 3)."""
    red, green, blue = np.moveaxis(colors.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def colors_of(codes: np.ndarray) -> np.ndarray:
    """Decode numbers into colors: int32 (..., 3)."""
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], -1)


def share(pixels: np.ndarray) -> str:
    """Format the share of pixels in a mask, in percent with three significant digits."""
    return f'{100 * pixels.mean():.3g}%'


def ranges(values: list[int]) -> str:
    """Format sorted values as ranges: [0, 1, 2, 255] -> '0 to 2, 255'."""
    breaks = [index for index, (previous, value) in enumerate(pairwise(values), start=1) if value != previous + 1]
    parts = []
    for first, last in pairwise([0, *breaks, len(values)]):
        start, end = values[first], values[last - 1]
        parts.append(str(start) if start == end else f'{start} to {end}')
    return ', '.join(parts)
