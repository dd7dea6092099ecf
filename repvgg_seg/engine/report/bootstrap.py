"""Percentile bootstrap: how much a number would vary with other images of the same kind."""
import numpy as np

RESAMPLES, CONFIDENCE, SEED = 1000, 0.95, 0
CHUNK = 100  # Number of resamples that are computed at once; this limits the memory use.


def resample(areas: np.ndarray) -> np.ndarray:
    """Draw as many images as there are, with replacement, and sum their areas; repeat this ``RESAMPLES`` times.

    For a given number of images, the same images are always drawn, so differences between two models are paired.

    Args:
        areas: areas of each image, int64 (images, 3, classes), see :func:`~repvgg_seg.engine.report.counts.areas_of`.

    Returns:
        float64 (RESAMPLES, 3, classes).
    """
    images = len(areas)
    flat = areas.reshape(images, -1).astype(np.float64)
    random = np.random.default_rng(SEED)
    shares = np.full(images, 1 / images)
    drawn = [random.multinomial(images, shares, CHUNK) @ flat for _ in range(RESAMPLES // CHUNK)]
    return np.concatenate(drawn).reshape(RESAMPLES, *areas.shape[1:])


def interval(values: np.ndarray) -> list[float] | None:
    """Limits of the central interval that contains a share ``CONFIDENCE`` of the resampled values; None if all are NaN."""
    numbers = values[~np.isnan(values)]
    if not numbers.size:
        return None
    return np.quantile(numbers, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
