"""Splitting images into a training and a validation set in which the classes are as frequent."""
import numpy as np

TRIALS = 1000
SHARE = 0.2  # Of the validation set.


def split(counts: np.ndarray, seed: int = 0, share: float = SHARE) -> np.ndarray:
    """Choose the images for validation.

    Of many random choices the one is taken in which the fewest classes are absent from one of the two sets, and then the one
    in which the classes have the most similar shares of the pixels.

    Args:
        counts: pixels of each class in each image, (images, classes); at least two images.
        seed: of the choices.
        share: of the images.

    Returns:
        bool (images, ).
    """
    random = np.random.default_rng(seed)
    images = len(counts)
    chosen = max(1, round(share * images))
    splittable = np.count_nonzero(counts, axis=0) > 1  # A class in one image alone cannot be in both.
    best, best_score = np.zeros(images, bool), (np.inf, np.inf)
    for _ in range(TRIALS):
        validation = np.zeros(images, bool)
        validation[random.choice(images, chosen, replace=False)] = True
        inside, outside = counts[validation].sum(0), counts[~validation].sum(0)
        absent = np.count_nonzero(splittable & ((inside == 0) | (outside == 0)))
        difference = np.abs(inside / max(1, inside.sum()) - outside / max(1, outside.sum())).sum()
        score = (float(absent), float(difference))
        if score < best_score:
            best, best_score = validation, score
    return best
