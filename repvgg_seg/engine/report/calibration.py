"""Calibration: whether confidence matches accuracy (Guo et al., ICML 2017, https://arxiv.org/abs/1706.04599)."""
import numpy as np
from torch import Tensor

BINS = 15  # Number of bins of equal width, as in the paper.


def confidence_of(scores: Tensor, predicted: Tensor) -> Tensor:
    """Probability of the predicted class of each pixel.

    Args:
        scores: logits (C, H, W), or for two classes the probability (1, H, W) of the second class.
        predicted: predicted class indices (H, W).

    Returns:
        Probabilities (H, W), 0 to 1.
    """
    if scores.shape[0] == 1:
        return scores[0].where(predicted > 0, 1 - scores[0])
    return scores.float().softmax(dim=0).gather(0, predicted[None].long())[0]


def calibration_counts(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Sort pixels into bins by their confidence.

    Args:
        confidence: confidence of each pixel (n, ), 0 to 1.
        right: whether the predicted class of each pixel equals its label, bool (n, ).

    Returns:
        Number of pixels, sum of their confidence, and number of correct pixels in each bin, float64 (3, BINS).
    """
    number = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return np.stack([np.bincount(number, weights, BINS).astype(np.float64) for weights in (None, confidence, right)])


def calibration_of(counts: np.ndarray) -> dict:
    """Points of the reliability diagram and expected calibration error, in percent, from summed counts."""
    pixels, confidence, right = counts
    return dict(
        error=100 * float(np.abs(confidence - right).sum() / max(pixels.sum(), 1)),
        bins=[dict(lower=100 * index / BINS, upper=100 * (index + 1) / BINS, pixels=int(pixels[index]),
                   confidence=100 * confidence[index] / pixels[index] if pixels[index] else None,
                   accuracy=100 * right[index] / pixels[index] if pixels[index] else None) for index in range(BINS)])
