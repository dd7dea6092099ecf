"""Thresholds for unknown pixels over many splits: the splits, and the two ways to choose."""
import numpy as np
import pytest

from repvgg_seg.benchmark.unknown import Outcome, Result, Splitting, certified, outcome_of, plain
from repvgg_seg.core.errors import UserError
from repvgg_seg.deploy.abstention import LEVELS


@pytest.mark.parametrize(('images', 'block'), [(101, 10), (40, 1), (23, 4)])
def test_blocks_stay_together(images, block):
    parts = list(Splitting(20, block, 0.7).parts(images))
    assert len({tuple(chosen) for chosen, _ in parts}) > 10
    for chosen, others in parts:
        assert sorted([*chosen, *others]) == list(range(images))
        blocks = {index // block for index in chosen}
        assert not blocks & {index // block for index in others} and len(blocks) == round(0.7 * -(-images // block))
    again = list(Splitting(3, block, 0.7).parts(images))
    assert all(np.array_equal(first, second) for pair in zip(parts, again) for first, second in zip(*pair))


def test_too_few_blocks():
    with pytest.raises(UserError) as error:
        list(Splitting(20, 10, 0.7).parts(10))
    assert str(error.value) == ('10 images are 1 block(s) of 10, of which 0.7 is 1; expected blocks on both sides: give a '
                                'smaller --block, or another --calibrate')


def counts_of(*cells: tuple[int, int, int, int]) -> np.ndarray:
    """Counts of two classes: (class, level, right, wrong)."""
    counts = np.zeros((2, 2, LEVELS), np.int32)
    for index, level, right, wrong in cells:
        counts[:, index, level] = right, wrong
    return counts


def test_the_plain_threshold():
    """At level 60, 10 of 100 are wrong, and 30 of 200 at level 20, so the lowest of at most a tenth is just above level 20."""
    counts = [counts_of((0, 60, 50, 5), (1, 60, 40, 5), (1, 20, 80, 20))]
    assert plain(counts, 0.1, 0.9).tolist() == [21, 21]
    assert outcome_of(counts, plain(counts, 0.1, 0.9)) == Outcome(pytest.approx(0.1), pytest.approx(0.5))
    assert outcome_of(counts, plain(counts, 0.01, 0.9)) == Outcome(0, 0)


def test_certified_thresholds():
    """Class 1 is wrong half of the time, so only class 0 is answered; nothing is if both are."""
    good = [counts_of((0, 60, 99, 1), (1, 60, 10, 10))] * 200
    assert outcome_of(good, certified(good, 0.05, 0.9)) == Outcome(pytest.approx(0.01), pytest.approx(100 / 120))
    assert certified([counts_of((0, 60, 50, 50), (1, 60, 10, 10))] * 200, 0.05, 0.9) is None


def test_rows():
    row = Result('a.onnx', 'int8', 'plain', [Outcome(0.04, 0.5), Outcome(0.06, 0.7), None, Outcome(0.05, 0.4)]).row(0.05)
    assert row == {
        'file': 'a.onnx', 'precision': 'int8', 'thresholds': 'plain', 'mean risk': '5.00%', 'max risk': '6.00%',
        'splits above 0.05': '25%', 'splits without thresholds': '25%', 'mean coverage': '40.0%'}
    assert Result('a.onnx', 'int8', 'plain', [None]).row(0.05)['mean risk'] == ''
