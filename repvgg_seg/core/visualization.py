"""Pictures of label maps."""
import colorsys
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .labels import IGNORE

UNKNOWN = 'unknown'  # Name of predicted labels without a class.
IGNORED_COLOR = (0, 0, 0)
BACKGROUND_COLOR = [90, 90, 90]
GOLDEN_RATIO = 0.618034  # Fraction of a turn that keeps successive hues far apart.
ROW = 18  # Height of a legend line in pixels.


def colorize(labels: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Color class indices.

    Args:
        labels: uint8 (H, W) of class indices; 255 and other values outside the palette are black.
        palette: RGB color of each class.

    Returns:
        uint8 RGB (H, W, 3).
    """
    return _colors(palette)[labels]


def viewable(image: np.ndarray) -> np.ndarray:
    """Convert an image, as loaded by a pipeline, to one that can be displayed.

    Args:
        image: image of any dtype, (H, W) or (H, W, C). With three or more channels, the first three are blue, green and red;
            with fewer, the first one is shown as gray. Values that are not 8-bit are scaled so that the finite values fill the
            8-bit range.

    Returns:
        uint8 RGB (H, W, 3), in newly allocated memory.
    """
    if image.ndim == 2:
        image = image[..., None]
    image = image[..., 2::-1] if image.shape[2] >= 3 else image[..., :1].repeat(3, axis=2)
    if image.dtype == np.uint8:
        return image.copy()
    if image.dtype.kind == 'f':
        image = np.nan_to_num(image.astype(np.float64), nan=0, posinf=0, neginf=0)
    else:
        image = image.astype(np.float32)
    low, high = image.min(), image.max()
    return ((image - low) * (255 / (high - low or 1))).astype(np.uint8)


def overlay(image: np.ndarray, labels: np.ndarray, classes: Sequence[str], palette: Sequence[Sequence[int]],
            opacity: float = 0.55, beside: bool = False, named: Collection[int] = ()) -> np.ndarray:
    """Blend colored labels over an image, and add a legend below it.

    Args:
        image: uint8 RGB (H, W, 3).
        labels: uint8 (H, W) of class indices; 255 is named "unknown".
        classes: name of each class.
        palette: RGB color of each class.
        opacity: opacity of the labels, 0 to 1.
        beside: whether to put the image itself to the left of the blended one.
        named: class indices, and 255, that the legend names even if they do not occur.

    Returns:
        uint8 RGB (H + height of the legend, W or 2 * W, 3).
    """
    import cv2  # Imported here because a server of exported models does without OpenCV, and needs only the colors.
    drawn = cv2.addWeighted(image, 1 - opacity, colorize(labels, palette), opacity, 0)
    if beside:
        drawn = np.concatenate([image, drawn], axis=1)
    colors = {**dict(enumerate(zip(classes, palette))), IGNORE: (UNKNOWN, IGNORED_COLOR)}
    occurring = np.bincount(labels.ravel(), minlength=IGNORE + 1)
    entries = [entry for index, entry in colors.items() if index in named or occurring[index]]
    return np.concatenate([drawn, legend([name for name, _ in entries], [color for _, color in entries], drawn.shape[1])])


def legend(classes: Sequence[str], palette: Sequence[Sequence[int]], width: int) -> np.ndarray:
    """Draw color patches with names, in as many lines as the width in pixels requires: uint8 RGB (H, width, 3)."""
    import cv2
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    entries, x, row = [], 4, 0
    for name, color in zip(classes, palette):
        length = ROW + cv2.getTextSize(name, font, scale, 1)[0][0] + 8
        if x > 4 and x + length > width:
            x, row = 4, row + 1
        entries.append((name, color, x, row * ROW))
        x += length
    picture = np.full(((row + 1) * ROW, width, 3), 255, np.uint8)
    for name, color, x, y in entries:
        cv2.rectangle(picture, (x, y + 4), (x + ROW - 6, y + ROW - 4), [int(value) for value in color], -1)
        cv2.putText(picture, name, (x + ROW - 2, y + ROW - 5), font, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return picture


def distinct_colors(classes: Sequence[str]) -> list[list[int]]:
    """Choose distinguishable RGB colors for some classes, gray for the background and never black; always the same ones."""
    shades = ((0.65, 0.95), (0.9, 0.6), (0.45, 0.85))  # Saturation and value, alternating.
    return [BACKGROUND_COLOR if name == 'background' else
            [round(255 * channel) for channel in colorsys.hsv_to_rgb(index * GOLDEN_RATIO % 1, *shades[index % len(shades)])]
            for index, name in enumerate(classes)]


def save_labels(path: Path, labels: np.ndarray, palette: Sequence[Sequence[int]] | None = None) -> None:
    """Write label values as a one-channel PNG; with a palette, viewers show colors while the values are unchanged."""
    picture = Image.fromarray(labels)
    if palette is not None:
        picture.putpalette(_colors(palette).ravel().tolist())  # With fewer colors, Pillow would use fewer bits per value.
    picture.save(path, format='PNG')  # Pillow sees no suffix in names such as "..png".


def _colors(palette: Sequence[Sequence[int]]) -> np.ndarray:
    """The color of each label value: uint8 RGB (256, 3)."""
    table = np.full((256, 3), IGNORED_COLOR, np.uint8)
    table[:len(palette)] = palette
    return table
