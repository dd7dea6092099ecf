"""Boundary IoU: the IoU of the pixels near the outlines of each class (Cheng et al., CVPR 2021, https://arxiv.org/abs/2103.16562)."""
import math

import cv2
import numpy as np

from ...core.labels import IGNORE

DILATION_RATIO = 0.02  # Largest distance to the outline, as a share of the image diagonal. The value is the paper's.


def boundary_areas(label: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count the pixels of each class that are near its outline in an image.

    As in the authors' code, the image border counts as an outline. In both maps, so does the border of an ignored region.

    Args:
        label: class indices, uint8 (H, W), with 255 for ignored pixels.
        predicted: predicted class indices, uint8 (H, W).
        classes: number of classes.

    Returns:
        Pixel counts, int64 (3, classes): in both label and prediction, in the label, in the prediction.
    """
    predicted = np.where(label == IGNORE, np.uint8(IGNORE), predicted)
    in_label, in_prediction = near_outline(label), near_outline(predicted)
    common = in_label & in_prediction & (label == predicted)
    return np.stack([np.bincount(values, minlength=classes)
                     for values in (label[common], label[in_label], predicted[in_prediction])])


def near_outline(labels: np.ndarray) -> np.ndarray:
    """Find the pixels that are near a pixel of another class or near the image border.

    Args:
        labels: class indices, uint8 (H, W), with 255 for ignored pixels.

    Returns:
        Mask, bool (H, W); False for ignored pixels.
    """
    distance = max(1, round(DILATION_RATIO * math.hypot(*labels.shape)))
    window = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    # A pixel is far from the outline if the largest and the smallest value around it both equal its own value.
    largest = cv2.dilate(labels, window, borderType=cv2.BORDER_CONSTANT, borderValue=(IGNORE, ))
    smallest = cv2.erode(labels, window)
    return ((largest != labels) | (smallest != labels)) & (labels != IGNORE)
