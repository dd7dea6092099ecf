"""Stages in threads: in order, bounded, and an error or the end of one ends all."""
import threading
import time

import pytest

from repvgg_seg.engine.prediction.stages import ahead, newest


class Counted:
    """Numbers from 0, which say how many were taken and whether the generator was closed."""

    def __init__(self, count: int, pause: float = 0) -> None:
        self.count, self.pause, self.taken, self.closed = count, pause, 0, False

    def items(self):
        try:
            for number in range(self.count):
                self.taken += 1
                yield number
                time.sleep(self.pause)
        finally:
            self.closed = True


@pytest.mark.parametrize('size', [1, 3])
def test_items_in_order_and_not_too_far_ahead(size):
    source, seen = Counted(20), []
    for number in ahead(lambda item: item * 2, ahead(lambda item: item + 1, source.items(), size), size):
        seen.append(number)
        assert source.taken <= len(seen) + 2 * size + 1  # Two stages with as many each, and one on its way between them.
    assert seen == [2 * (number + 1) for number in range(20)] and source.closed


def test_stages_overlap():
    first, second = threading.Event(), threading.Event()

    def make(item: int) -> int:
        if item == 1:
            first.set()
            assert second.wait(5)  # While the consumer still has the item before.
        return item

    for item in ahead(make, Counted(2).items(), 1):
        if item == 0:
            assert first.wait(5)
            second.set()


def test_an_error_in_a_stage_ends_all_of_them():
    source = Counted(1000)

    def fail(item: int) -> int:
        if item == 3:
            raise ValueError('broken')
        return item

    seen = []
    with pytest.raises(ValueError, match='^broken$'):
        seen.extend(ahead(lambda item: item, ahead(fail, source.items(), 2), 2))
    assert source.closed and source.taken < 10


def test_a_consumer_that_stops_ends_all_stages():
    source, before = Counted(1000), threading.active_count()
    stages = ahead(lambda item: item, ahead(lambda item: item, source.items(), 2), 2)
    assert next(stages) == 0
    stages.close()
    assert source.closed and source.taken < 10 and threading.active_count() == before


def test_a_slow_consumer_gets_the_newest_items():
    source, seen = Counted(30, pause=0.005), []
    for number in newest(source.items()):
        seen.append(number)
        time.sleep(0.03)
    assert seen == sorted(set(seen)) and 3 < len(seen) < 20 and seen[-1] == 29 and source.closed


def test_an_error_of_live_items_reaches_the_consumer():
    def items():
        yield 1
        raise ValueError('gone')

    with pytest.raises(ValueError, match='^gone$'):
        list(newest(items()))


def test_a_consumer_that_stops_ends_the_watching():
    source, before = Counted(10000, pause=0.001), threading.active_count()
    items = newest(source.items())
    next(items)
    items.close()
    assert source.closed and threading.active_count() == before
