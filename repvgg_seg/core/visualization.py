"""Pictures of label maps."""
import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

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
    if image.dtype != np.uint8:
        finite = np.nan_to_num(image.astype(np.float64), nan=0, posinf=0, neginf=0)
        image = (finite - finite.min()) * (255 / (np.ptp(finite) or 1))
    return image.astype(np.uint8)


def overlay(image: np.ndarray, labels: np.ndarray, classes: Sequence[str], palette: Sequence[Sequence[int]],
            opacity: float = 0.55) -> np.ndarray:
    """Blend colored labels over an image, and add a legend of the occurring classes below it.

    Args:
        image: uint8 RGB (H, W, 3).
        labels: uint8 (H, W) of class indices.
        classes: name of each class.
        palette: RGB color of each class.
        opacity: opacity of the labels, 0 to 1.

    Returns:
        uint8 RGB (H + height of the legend, W, 3).
    """
    import cv2  # Imported here because a server of exported models does without OpenCV, and needs only the colors.
    blended = cv2.addWeighted(image, 1 - opacity, colorize(labels, palette), opacity, 0)
    present = [index for index in np.unique(labels) if index < len(classes)]
    return np.concatenate([blended, legend([classes[index] for index in present], [palette[index] for index in present],
                                           image.shape[1])])


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
