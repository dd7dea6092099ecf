"""How far a number would be another one with other images of the same kind: percentile intervals of the bootstrap."""
import numpy as np

RESAMPLES, CONFIDENCE, SEED = 1000, 0.95, 0
CHUNK = 100  # Resamples that are computed at once, to bound the memory.


def resample(areas: np.ndarray) -> np.ndarray:
    """Sum the areas of images that are drawn with replacement, as many as there are, again and again.

    The same images are drawn for every model with as many images, so differences between two models are paired.

    Args:
        areas: int64 (images, 3, classes), as :func:`~repvgg_seg.engine.report.counts.areas_of` counts them.

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
    """The limits between which ``CONFIDENCE`` of the resampled values lie; None if none of them is a number."""
    numbers = values[~np.isnan(values)]
    if not numbers.size:
        return None
    return np.quantile(numbers, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
