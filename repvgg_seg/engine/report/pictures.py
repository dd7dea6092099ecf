"""The pictures of a report: image, label, prediction and errors of every image of the test set."""
import re
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ...core.labels import IGNORE
from ...core.visualization import save_labels

LAYERS = {'image': 'jpg', 'label': 'png', 'prediction': 'png', 'errors': 'jpg'}
FOLDER = 'images'  # Subfolder of the report's folder.
WRITTEN = re.compile(rf'(\d{{5,}})_(?:{"|".join(LAYERS)})\.(?:jpg|png)')
LONGEST = 800  # Maximum length of the longer side in pixels; larger images are downscaled.
RED = (225, 29, 72)


def picture_name(number: int, layer: str) -> str:
    """Path of a picture relative to the report's folder."""
    return f'{FOLDER}/{number:05d}_{layer}.{LAYERS[layer]}'


def write_pictures(folder: Path, number: int, image: np.ndarray, label: np.ndarray, predicted: np.ndarray,
                   palette: list) -> None:
    """Write the pictures of an image.

    Args:
        folder: report folder.
        number: position of the image in the test set.
        image: RGB image, uint8 (H, W, 3).
        label: class indices, uint8 (H, W), with 255 for ignored pixels.
        predicted: predicted class indices, uint8 (H, W).
        palette: RGB color of each class.
    """
    height, width = label.shape
    factor = min(1, LONGEST / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
    predicted = cv2.resize(predicted, size, interpolation=cv2.INTER_NEAREST)
    paths = {layer: folder / picture_name(number, layer) for layer in LAYERS}
    for layer, picture in (('image', image), ('errors', errors_of(image, label, predicted))):
        Image.fromarray(picture).save(paths[layer], quality=88, subsampling=0)
    save_labels(paths['label'], label, palette)
    save_labels(paths['prediction'], predicted, palette)


def errors_of(image: np.ndarray, label: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Draw the image in pale gray, with wrong pixels in red and ignored pixels in black: RGB, uint8 (H, W, 3)."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    shown = np.repeat((115 + gray[..., None] * 0.5).astype(np.uint8), 3, axis=2)
    wrong = (label != predicted) & (label != IGNORE)
    shown[wrong] = (0.25 * shown[wrong] + 0.75 * np.array(RED)).astype(np.uint8)
    shown[label == IGNORE] = 0
    return shown


def remove_pictures(folder: Path, first: int = 0) -> None:
    """Remove the pictures of an earlier report whose number is at least ``first``."""
    for path in (folder / FOLDER).glob('*'):
        if (match := WRITTEN.fullmatch(path.name)) and int(match[1]) >= first:
            path.unlink()
