"""Which sizes, weights of classes and schedules ``init`` chooses."""
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from repvgg_seg.datasets.inspection.pixels import Pixels
from repvgg_seg.engine.project_init.plan import IMAGENET_MEAN, IMAGENET_STD, choose_sizes, class_weights, with_schedule, wrapped
from repvgg_seg.engine.project_init.speed import Speed


def plan_of(size: tuple[int, int], images: int = 100, device: str = 'cpu', mean=IMAGENET_MEAN, std=IMAGENET_STD):
    found = SimpleNamespace(kind=SimpleNamespace(shares=lambda: np.array([0.5, 0.5])),
                            splits=dict(train=SimpleNamespace(pairs=[None] * images)))
    return choose_sizes(found, Pixels(Counter({size: 3}), list(mean), list(std)), device)


@pytest.mark.parametrize(('size', 'device', 'crop', 'resized'), [
    ((360, 480), 'cpu', (193, 257), None),
    ((100, 150), 'cpu', (97, 145), None), ((40, 56), 'cpu', (33, 49), None),
    ((3000, 4000), 'cpu', (193, 257), (640, 640)),
    ((1024, 2048), 'cuda', (361, 721), (1024, 1024)), ((5, 9), 'cpu', (9, 9), None)])
def test_sizes(size, device, crop, resized):
    plan = plan_of(size, device=device)
    assert (plan.crop, plan.resized) == (crop, resized)
    assert all(length % 8 == 1 for length in plan.crop)


def test_a_small_set_has_a_small_batch():
    assert plan_of((360, 480), images=3).batch == 3


@pytest.mark.parametrize(('mean', 'std', 'measured'), [
    ([110.0, 110.0, 100.0], [60.0, 60.0, 60.0], False), ([30.0, 110.0, 100.0], [60.0, 60.0, 60.0], True),
    ([110.0, 110.0, 100.0], [60.0, 20.0, 60.0], True)])
def test_normalization_is_measured_where_it_differs_much(mean, std, measured):
    plan = plan_of((360, 480), mean=mean, std=std)
    assert (plan.mean == mean, plan.std == std) == (measured, measured)


@pytest.mark.parametrize(('shares', 'weights'), [
    ([0.6, 0.4], None), ([1.0, 0.0], None), ([0.8, 0.19, 0.01], [0.49, 1.0, 4.0]), ([0.9, 0.0, 0.1], [0.75, 1.0, 2.24])])
def test_class_weights(shares, weights):
    assert class_weights(np.array(shares)) == weights


@pytest.mark.parametrize(('images', 'seconds', 'pretrained', 'hours', 'epochs'), [
    (320, 0.1, False, 10, 100), (320, 0.1, True, 10, 50), (320, 1.0, False, 0.5, 44), (320, 60.0, False, 0.5, 10),
    (16, 0.01, False, 10, 500), (16, 60.0, False, 0.5, 100)])
def test_schedule(images, seconds, pretrained, hours, epochs):
    """As many iterations as are needed and affordable, but neither too few nor too many epochs."""
    plan = with_schedule(plan_of((360, 480), images), images, 20, Speed('cpu', 8, False, seconds, 0.2), pretrained, hours)
    assert plan.epochs == epochs
    assert plan.epochs / plan.val_interval <= 10 and plan.warm_up == max(1, round(0.05 * epochs))
    assert plan.learning_rate == (0.01 if pretrained else 0.03)
    steps = epochs * (images // 8) * seconds
    assert plan.seconds == pytest.approx(steps + 0.2 * 20 * np.ceil(plan.epochs / plan.val_interval))


def test_long_lists_are_wrapped():
    lines = wrapped([f'class {index}' for index in range(40)], 10)
    assert eval(lines) == [f'class {index}' for index in range(40)] and max(map(len, lines.split('\n'))) <= 110
