"""The promise of the thresholds, on synthetic populations of images whose true risk is known, in float64."""
import numpy as np
import pytest

from repvgg_seg.core.errors import UserError
from repvgg_seg.core.labels import IGNORE
from repvgg_seg.deploy.abstention import (
    CONFIDENCES,
    LEVELS,
    NEVER,
    THRESHOLDS,
    certify,
    count_pixels,
    p_values,
    sequence_of,
    shares,
)

CLASSES, PIXELS, LIMIT, CONFIDENCE = 3, 300, 0.05, 0.9


def population(size: int, seed: int, fatal: float = 0) -> list[np.ndarray]:
    """Images of an overconfident model: classes differ in how wrong they are, and images do even more.

    Args:
        size: number of images.
        seed: of the random numbers.
        fatal: share of images in which every answer is wrong, however sure.
    """
    random = np.random.default_rng(seed)
    images = []
    for _ in range(size):
        confidence = (1 - random.random(PIXELS)**4).astype(np.float32)
        predicted = random.integers(CLASSES, size=PIXELS)
        difficulty = random.lognormal(0.2, 0.7) * np.array([0.4, 1, 2])[predicted]
        wrong = random.random(PIXELS) < (1 if random.random() < fatal else np.minimum(1, difficulty * (1 - confidence)))
        images.append(count_pixels(predicted, confidence, (predicted + wrong) % CLASSES, CLASSES))
    return images


def levels_of(thresholds: tuple[float, ...]) -> np.ndarray:
    """The sequence of one step that has these thresholds."""
    return np.searchsorted(THRESHOLDS, thresholds)[None]


def risk_and_coverage(images: np.ndarray, levels: np.ndarray) -> tuple[float, float]:
    """Of the summed counts of a whole population, that is, the true ones: all images have as many pixels."""
    wrong, answered = shares([images], levels)
    return float(wrong[0, 0] / answered[0, 0]), float(answered[0, 0])


def plain(images: list[np.ndarray]) -> np.ndarray:
    """The usual way: the lowest threshold whose share of wrong pixels, on the images at hand, is at most the limit."""
    steps = np.repeat(np.arange(LEVELS)[:, None], CLASSES, axis=1)
    wrong, answered = shares([np.sum(images, axis=0)], steps)
    return steps[None, (wrong[0] <= LIMIT * answered[0]).argmax()]


@pytest.mark.parametrize(('fatal', 'certified'), [(0, 60), (0.01, 20)])
def test_the_promise_is_kept(fatal, certified):
    """Over many draws of images; an ordinary threshold breaks it in every third or more."""
    everyone, random = population(800, seed=1, fatal=fatal), np.random.default_rng(2)
    whole = np.sum(everyone, axis=0)
    broken, broken_plain, coverage, draws = 0, 0, [], 60
    for _ in range(draws):
        drawn = [everyone[index] for index in random.integers(len(everyone), size=250)]
        broken_plain += risk_and_coverage(whole, plain(drawn))[0] > LIMIT
        try:
            certificate = certify(drawn, LIMIT, CONFIDENCE)
        except UserError:
            continue
        risk, covered = risk_and_coverage(whole, levels_of(certificate.thresholds))
        broken += risk > LIMIT
        coverage.append(covered)
        assert certificate.images == 200 and certificate.coverage == pytest.approx(covered, abs=0.1)
    assert broken <= (1 - CONFIDENCE) * draws and len(coverage) >= certified and np.mean(coverage) > 0.4
    assert broken_plain > 0.25 * draws


@pytest.mark.parametrize('share', [0, 0.5, 1])
def test_p_values_are_valid(share):
    """For losses whose expectation is exactly the limit, in the worst case and in milder ones: small ones are rare."""
    random = np.random.default_rng(0)
    worst = random.random((150, 6000)) < LIMIT
    mild = LIMIT * random.gamma(4, 1 / 4, (150, 6000))
    values = p_values(np.where(random.random(worst.shape) < share, worst, np.minimum(mild, 1)), LIMIT, 0.1)
    for error in (0.02, 0.1, 0.3):
        assert (values <= error).mean() <= error + 2 * np.sqrt(error / 6000)


def test_p_values_have_power():
    """Of few wrong pixels, some tens of images suffice: at best, a capital grows by the limit with each."""
    losses = np.full((100, 1), 0.01)
    assert np.exp(-100 * (LIMIT - 0.01)) < p_values(losses, LIMIT, 0.1)[0] < 0.05
    assert p_values(np.full((100, 1), LIMIT), LIMIT, 0.1)[0] == 1


def test_counts_are_those_of_the_rule():
    random = np.random.default_rng(0)
    confidence = np.concatenate([random.random(400), CONFIDENCES[[0, 7, -1]], [1]]).astype(np.float32)
    predicted, label = (random.integers(4, size=confidence.size) for _ in range(2))
    label[::9] = IGNORE
    counts = count_pixels(predicted, confidence, label, 4)
    assert counts.sum() == (label != IGNORE).sum()
    sequence = random.integers(LEVELS + 1, size=(5, 4))
    wrong, answered = shares([counts], sequence)
    for step, levels in enumerate(sequence):
        sure = (confidence >= THRESHOLDS[levels][predicted].astype(np.float32)) & (label != IGNORE)
        assert answered[0, step] == pytest.approx(sure.sum() / (label != IGNORE).sum())
        assert wrong[0, step] == pytest.approx((sure & (predicted != label)).sum() / (label != IGNORE).sum())


def test_sequences_go_from_strict_to_loose():
    sequence = sequence_of(np.sum(population(40, seed=3), axis=0), LIMIT)
    assert (np.diff(sequence, axis=0) <= 0).all() and (sequence[-1] == 0).all()
    never = sequence_of(np.zeros((2, CLASSES, LEVELS), int), LIMIT)
    assert (THRESHOLDS[never[:-1]] == NEVER).all()


def test_too_few_images():
    with pytest.raises(UserError) as error:
        certify(population(50, seed=4), LIMIT, CONFIDENCE)
    assert str(error.value) == (
        '--abstain 0.05 needs more than 60 labeled images for a confidence of 90%, there are 50; add images, or allow a larger '
        '--abstain or a lower --confidence')


def test_too_many_errors():
    with pytest.raises(UserError) as error:
        certify(population(100, seed=5, fatal=0.1), LIMIT, CONFIDENCE)
    begin, end = str(error.value).split('; those that come closest answer ')
    assert begin == 'no thresholds make at most 5.00% of the answered pixels wrong with a confidence of 90%'
    assert end.endswith('% of them wrongly. Add labeled images, or allow a larger --abstain or a lower --confidence')
