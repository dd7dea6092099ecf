"""Confusion matrices of images, and the values of the classes that follow from them."""
from collections.abc import Iterable

import numpy as np

from ...core.labels import IGNORE


def confusion_of(label: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count the pixels of an image by their label and their predicted class.

    Args:
        label: uint8 (H, W) of class indices, 255 where a pixel does not count.
        predicted: (H, W) of class indices.
        classes: number of classes.

    Returns:
        int64 (n, 3): label, predicted class and number of pixels of each combination that occurs.
    """
    counted = label != IGNORE
    pixels = np.bincount(label[counted].astype(np.int64) * classes + predicted[counted], minlength=classes**2)
    cells = np.flatnonzero(pixels)
    return np.stack([cells // classes, cells % classes, pixels[cells]], axis=1)


def matrix_of(confusions: Iterable[np.ndarray], classes: int) -> np.ndarray:
    """The confusion matrix of some images: int64 (classes, classes), a row for each label, a column for each prediction."""
    matrix = np.zeros((classes, classes), np.int64)
    for confusion in confusions:
        label, predicted, pixels = confusion.T
        np.add.at(matrix, (label, predicted), pixels)
    return matrix


def areas_of(matrix: np.ndarray) -> np.ndarray:
    """Pixels of each class: int64 (3, classes), in label and prediction, in the label, in the prediction."""
    return np.stack([matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)])


def iou(areas: np.ndarray) -> np.ndarray:
    """Intersection over union, 0 to 1, of areas (..., 3, classes): (..., classes), NaN for a class without pixels."""
    common, label, predicted = np.moveaxis(areas, -2, 0)
    return _share(common, label + predicted - common)


def accuracy(areas: np.ndarray) -> np.ndarray:
    """Share of the pixels of each class that are found, 0 to 1, of areas as in :func:`iou`."""
    return _share(areas[..., 0, :], areas[..., 1, :])


def precision(areas: np.ndarray) -> np.ndarray:
    """Share of the pixels predicted as each class that are of it, 0 to 1, of areas as in :func:`iou`."""
    return _share(areas[..., 0, :], areas[..., 2, :])


def pixel_accuracy(areas: np.ndarray) -> float:
    """Share of all pixels whose class is found, 0 to 1; NaN without pixels."""
    return float(_share(areas[0].sum(), areas[1].sum()))


def image_iou(areas: np.ndarray) -> float:
    """Mean IoU, 0 to 1, of the classes in the label of an image, of its areas (3, classes); NaN without pixels."""
    return mean(iou(areas)[areas[1] > 0])


def mean(values: np.ndarray) -> float:
    """Mean of the values that are numbers; NaN if none is."""
    numbers = values[~np.isnan(values)]
    return float(numbers.mean()) if numbers.size else float('nan')


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid='ignore'):
        return part / whole
