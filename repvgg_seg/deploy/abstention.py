"""Confidence thresholds below which a segmentor says "unknown", with a guarantee for the pixels that it answers.

The risk of thresholds is the expected share of an image's labeled pixels that get a wrong answer, divided by the expected share
that gets any answer. That this risk is at most ``limit`` means that the expectation of the loss

    loss = wrong + limit * (1 - answered),    0 <= loss <= 1,

of an image is at most ``limit``. The loss is not monotone in the thresholds: stricter ones lower ``wrong``, but raise the other
term. Conformal risk control (Angelopoulos et al., 2022, https://arxiv.org/abs/2208.02814) needs a monotone loss, and making
this one monotone would raise it to ``limit`` everywhere, because that is the loss of no answer at all. We therefore use Learn
then Test (Angelopoulos et al., 2021, https://arxiv.org/abs/2110.01052), which needs no monotonicity: the hypothesis that the
expected loss exceeds the limit is tested for a fixed sequence of thresholds, from strict to loose, and the last thresholds
before the first hypothesis that is not rejected are taken. The p-values are those of a betting martingale (Waudby-Smith and
Ramdas, 2020, https://arxiv.org/abs/2010.09686), which are valid for any number of independent images of any distribution.

The sequence must not depend on the images of the test. Every fifth image therefore only serves to choose it.
"""
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import UserError
from ..core.labels import IGNORE

LEVELS = 128
# Confidences at which thresholds can be: dense near 1, and multiples of 2^-24, which float32 represents exactly.
CONFIDENCES = np.round((1 - np.logspace(0, -4, LEVELS)) * 2**24) / 2**24
NEVER = 2.0  # Threshold of a class that is never answered.
THRESHOLDS = np.append(CONFIDENCES, NEVER)
CHOOSING = 5  # One in so many images chooses the sequence of thresholds.
STEPS = 100  # Length of the sequence.


class UncertifiedError(UserError):
    """There are enough images, but no thresholds that pass the test on them."""


@dataclass(frozen=True)
class Certificate:
    """Thresholds and what is known about them; see the documentation of this module.

    Args:
        limit: largest risk.
        confidence: probability, over the images that were drawn for the test, that the risk is at most the limit.
        thresholds: smallest confidence, by class, with which a pixel is answered.
        risk: share of the answered pixels that are wrong, on the images of the test.
        coverage: share of the labeled pixels that are answered, on these images.
        images: number of these images.
    """
    limit: float
    confidence: float
    thresholds: tuple[float, ...]
    risk: float
    coverage: float
    images: int

    def line(self) -> str:
        """Describe the certificate for the terminal."""
        return (f'answers {self.coverage:.1%} of the pixels, of which {self.risk:.2%} are wrong on {self.images} images (at '
                f'most {self.limit:.2%} with confidence {self.confidence:.0%})')


def count_pixels(predicted: np.ndarray, confidence: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """Count the labeled pixels of an image by class and confidence.

    Args:
        predicted: class indices (H, W).
        confidence: softmax probability of the predicted class, float32 (H, W).
        label: class indices (H, W), 255 where a pixel does not count.
        classes: number of classes.

    Returns:
        int32 (2, classes, LEVELS): right and wrong pixels by predicted class and by the index of the largest element of
        ``CONFIDENCES`` that the confidence reaches.
    """
    counted = label != IGNORE
    predicted = predicted[counted].astype(np.int64)
    level = np.searchsorted(CONFIDENCES, confidence[counted], side='right') - 1
    wrong = predicted != label[counted]
    cells = np.bincount((wrong * classes + predicted) * LEVELS + level, minlength=2 * classes * LEVELS)
    return cells.reshape(2, classes, LEVELS).astype(np.int32)


def certify(counts: Sequence[np.ndarray], limit: float, confidence: float) -> Certificate:
    """Choose thresholds whose risk is at most ``limit`` with probability ``confidence``.

    Args:
        counts: counts of each image, see :func:`count_pixels`.
        limit: largest risk, between 0 and 1.
        confidence: probability of the guarantee, between 0 and 1.

    Raises:
        UserError: there are too few images.
        UncertifiedError: no thresholds pass the test.
    """
    counts = [each for each in counts if each.any()]
    choosing = counts[::CHOOSING]
    tested = [each for number, each in enumerate(counts) if number % CHOOSING]
    check_number(len(counts), limit, confidence)
    sequence = sequence_of(np.sum(choosing, axis=0), limit)
    wrong, answered = shares(choosing, sequence)
    first = int(np.argmax((limit * answered - wrong).mean(axis=0)))
    wrong, answered = shares(tested, sequence[first:])
    values = p_values(wrong + limit * (1 - answered), limit, 1 - confidence)
    rejected = int(np.append(values <= 1 - confidence, False).argmin())  # How many come before one that is not.
    last = max(rejected - 1, 0)
    coverage = float(answered[:, last].mean())
    risk = float(wrong[:, last].mean()) / (coverage or 1)
    if rejected == 0:
        raise UncertifiedError(
            f'no thresholds make at most {limit:.2%} of the answered pixels wrong with a confidence of {confidence:.0%}; those '
            f'that come closest answer {coverage:.1%} of the pixels of {len(tested)} images, {risk:.2%} of them wrongly. Add '
            'labeled images, or allow a larger --abstain or a lower --confidence')
    thresholds = tuple(THRESHOLDS[sequence[first + last]].tolist())
    return Certificate(limit, confidence, thresholds, risk, coverage, len(tested))


def check_number(images: int, limit: float, confidence: float, place: str = '') -> None:
    """Check that a number of labeled images can suffice for :func:`certify`, which takes more the more pixels are wrong.

    Args:
        images: number of labeled images.
        limit, confidence: see :func:`certify`.
        place: where these images are, for the message.

    Raises:
        UserError: even without a wrong pixel they are too few, because a capital grows at most by ``limit`` with each image.
    """
    needed = math.ceil(math.log(1 / (1 - confidence)) / math.log1p(limit))
    if images - len(range(0, images, CHOOSING)) < needed:
        raise UserError(f'--abstain {limit:g} needs more than {needed * CHOOSING // (CHOOSING - 1)} labeled images for a '
                        f'confidence of {confidence:.0%}, there are {images}{place}; add images, or allow a larger --abstain '
                        'or a lower --confidence')


def sequence_of(counts: np.ndarray, limit: float) -> np.ndarray:
    """Choose a sequence of thresholds from strict to loose, each with about the same risk for every class.

    Args:
        counts: counts (2, classes, LEVELS), summed over images.
        limit: largest risk.

    Returns:
        Indices into ``THRESHOLDS``, (STEPS, classes): for each of a sequence of growing risks, the lowest threshold of each
        class at which its answers have at most that risk.
    """
    right, wrong = counts[..., ::-1].cumsum(axis=-1, dtype=np.int64)[..., ::-1]  # Of pixels that reach each confidence.
    with np.errstate(invalid='ignore'):
        risk = np.nan_to_num(wrong / (right + wrong), nan=1)
    risks = limit * np.append(np.geomspace(0.02, 5, STEPS - 1), np.inf)
    allowed = risk <= risks[:, None, None]
    return np.where(allowed.any(axis=-1), allowed.argmax(axis=-1), LEVELS)


def shares(counts: Sequence[np.ndarray], sequence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the labeled pixels that are answered wrongly, and that are answered: float64 (images, steps) each.

    Args:
        counts: counts of each image, see :func:`count_pixels`.
        sequence: indices into ``THRESHOLDS``, (steps, classes).
    """
    wrong, answered = [], []
    classes = np.arange(sequence.shape[1])
    for each in counts:
        reached = np.zeros((2, sequence.shape[1], LEVELS + 1))
        reached[..., :-1] = each[..., ::-1].cumsum(axis=-1)[..., ::-1]
        right, errors = reached[:, classes, sequence].sum(axis=-1) / each.sum()
        wrong.append(errors)
        answered.append(right + errors)
    return np.array(wrong), np.array(answered)


def p_values(losses: np.ndarray, limit: float, error: float) -> np.ndarray:
    """Test, for each step, the hypothesis that the expected loss exceeds the limit.

    A gambler bets on each image that its loss is below the limit, the more the less the losses so far vary. If the hypothesis
    is true, the capital grows beyond a factor x with a probability of at most 1 / x (Ville's inequality).

    Args:
        losses: losses from 0 to 1, (images, steps).
        limit: largest expected loss.
        error: probability of a wrong rejection for which the bets are chosen; the p-values are valid for any.

    Returns:
        p-values (steps, ).
    """
    count = np.arange(1, len(losses) + 1)[:, None]
    means = (0.5 + losses.cumsum(axis=0)) / (count + 1)
    variances = (0.25 + ((losses - means)**2).cumsum(axis=0)) / (count + 1)
    earlier = np.concatenate([np.full((1, losses.shape[1]), 0.25), variances[:-1]])
    bets = np.minimum(1, np.sqrt(2 * np.log(1 / error) / (len(losses) * earlier)))
    growth = np.log1p(-bets * (losses - limit)).cumsum(axis=0)
    return np.minimum(1, np.exp(-growth.max(axis=0)))
