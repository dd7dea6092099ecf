"""Split images into a training set and a validation set with similar class frequencies."""
import numpy as np

TRIALS = 1000
SHARE = 0.2  # Share of the images that become the validation set.


def split(counts: np.ndarray, seed: int = 0, share: float = SHARE) -> np.ndarray:
    """Choose the images for validation.

    Among many random choices, take the one with the fewest classes that are absent from one of the two sets. Among those, take
    the one with the most similar class frequencies.

    Args:
        counts: number of pixels of each class in each image, (images, classes); at least two images.
        seed: random seed of the choices.
        share: share of the images that are chosen.

    Returns:
        Whether each image is chosen, bool (images, ).
    """
    random = np.random.default_rng(seed)
    images = len(counts)
    chosen = max(1, round(share * images))
    splittable = np.count_nonzero(counts, axis=0) > 1  # A class that occurs in only one image cannot be in both sets.
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
