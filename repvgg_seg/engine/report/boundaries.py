"""Boundary IoU: the IoU of the pixels near the outlines of each class (Cheng et al., CVPR 2021, https://arxiv.org/abs/2103.16562)."""
import math

import cv2
import numpy as np

from ...core.labels import IGNORE

DILATION_RATIO = 0.02  # Distance to the outline up to which pixels count, as a share of the diagonal of the image; the paper's.


def boundary_areas(label: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Pixels of each class near its outline in an image.

    As in the authors' code, the edge of the image is an outline. So is that of a region without labels, in both maps.

    Args:
        label: uint8 (H, W) of class indices, 255 where a pixel does not count.
        predicted: uint8 (H, W) of class indices.
        classes: number of classes.

    Returns:
        int64 (3, classes): in label and prediction, in the label, in the prediction.
    """
    predicted = np.where(label == IGNORE, np.uint8(IGNORE), predicted)
    in_label, in_prediction = near_outline(label), near_outline(predicted)
    common = in_label & in_prediction & (label == predicted)
    return np.stack([np.bincount(values, minlength=classes)
                     for values in (label[common], label[in_label], predicted[in_prediction])])


def near_outline(labels: np.ndarray) -> np.ndarray:
    """Where a pixel has one of another class, or the outside of the image, near it.

    Args:
        labels: uint8 (H, W) of class indices, 255 where a pixel does not count.

    Returns:
        bool (H, W); False where a pixel does not count.
    """
    distance = max(1, round(DILATION_RATIO * math.hypot(*labels.shape)))
    window = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    # A pixel is inside its class where the largest and the smallest value around it are its own.
    largest = cv2.dilate(labels, window, borderType=cv2.BORDER_CONSTANT, borderValue=(IGNORE, ))
    smallest = cv2.erode(labels, window)
    return ((largest != labels) | (smallest != labels)) & (labels != IGNORE)
