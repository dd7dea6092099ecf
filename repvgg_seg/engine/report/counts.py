"""Confusion matrices of images, and the metrics computed from them."""
from collections.abc import Iterable

import numpy as np

from ...core.labels import IGNORE


def confusion_of(label: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count the pixels of an image by their label and their predicted class.

    Args:
        label: class indices, uint8 (H, W), with 255 for ignored pixels.
        predicted: predicted class indices (H, W).
        classes: number of classes.

    Returns:
        Label, predicted class and number of pixels of each combination that occurs, int64 (n, 3).
    """
    counted = label != IGNORE
    pixels = np.bincount(label[counted].astype(np.int64) * classes + predicted[counted], minlength=classes**2)
    cells = np.flatnonzero(pixels)
    return np.stack([cells // classes, cells % classes, pixels[cells]], axis=1)


def matrix_of(confusions: Iterable[np.ndarray], classes: int) -> np.ndarray:
    """Confusion matrix of several images: int64 (classes, classes), a row for each label, a column for each prediction."""
    matrix = np.zeros((classes, classes), np.int64)
    for confusion in confusions:
        label, predicted, pixels = confusion.T
        np.add.at(matrix, (label, predicted), pixels)
    return matrix


def areas_of(matrix: np.ndarray) -> np.ndarray:
    """Pixels of each class, int64 (3, classes): in both label and prediction, in the label, in the prediction."""
    return np.stack([matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)])


def iou(areas: np.ndarray) -> np.ndarray:
    """Intersection over union (..., classes), 0 to 1, from areas (..., 3, classes); NaN for a class without pixels."""
    common, label, predicted = np.moveaxis(areas, -2, 0)
    return _share(common, label + predicted - common)


def accuracy(areas: np.ndarray) -> np.ndarray:
    """Share of the pixels of each class that are predicted as this class, 0 to 1; the areas are those of :func:`iou`."""
    return _share(areas[..., 0, :], areas[..., 1, :])


def precision(areas: np.ndarray) -> np.ndarray:
    """Share of the pixels predicted as each class that belong to it, 0 to 1; the areas are those of :func:`iou`."""
    return _share(areas[..., 0, :], areas[..., 2, :])


def pixel_accuracy(areas: np.ndarray) -> float:
    """Share of all pixels whose class is predicted correctly, 0 to 1; NaN without pixels."""
    return float(_share(areas[0].sum(), areas[1].sum()))


def image_iou(areas: np.ndarray) -> float:
    """Mean IoU, 0 to 1, of the classes in the label of an image, from its areas (3, classes); NaN without pixels."""
    return mean(iou(areas)[areas[1] > 0])


def mean(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN if all are."""
    numbers = values[~np.isnan(values)]
    return float(numbers.mean()) if numbers.size else float('nan')


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid='ignore'):
        return part / whole
