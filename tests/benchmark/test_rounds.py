"""Timing in turns, by processes of their own."""
import os
import sys
import time
from functools import partial
from types import SimpleNamespace

import pytest
from torch import OutOfMemoryError

from repvgg_seg.benchmark import rounds
from repvgg_seg.benchmark.rounds import Measurement, Subject, measure
from repvgg_seg.benchmark.tables import markdown, milliseconds
from repvgg_seg.core.errors import UserError

LIGHT = ('mmengine', 'torch')  # What repvgg_seg imports where it is there, and these subjects do without.


def subject(name: str, make, **kwargs) -> Subject:
    return Subject(name, make, **{'without': LIGHT, **kwargs})


def returning(function, *args) -> partial:
    """What makes a call of a function of Python's own, which another process can import."""
    return partial(partial, function, *args)


@pytest.mark.parametrize('shared', [False, True])
def test_turns_and_what_is_measured(tmp_path, shared):
    log = tmp_path / 'log'
    subjects = [subject(name, returning(os.system, f'echo {name} >> {log}; sleep {seconds}'), units=4)
                for name, seconds in (('a', 0.1), ('b', 0.2))]
    first, second = measure(subjects, rounds=3, warm_up=2, shared=shared)
    assert log.read_text().split() == ['a', 'a', 'b', 'b', 'a', 'b', 'a', 'b', 'a', 'b']
    assert first.name == 'a' and len(first.milliseconds) == len(second.milliseconds) == 3
    assert min(first.milliseconds) >= 100 and min(second.milliseconds) >= 200
    assert (first.peak_bytes is None) if shared else (first.peak_bytes > 5e6)


def test_loading_is_timed_without_the_runs():
    slow_to_load = partial(eval, '(__import__("time").sleep(0.5), dict)[1]')
    slow_to_run, slow_to_load = measure([subject('', returning(time.sleep, 0.5)), subject('', slow_to_load)], 2)
    assert slow_to_run.load_seconds < 0.25 and min(slow_to_run.milliseconds) >= 500
    assert slow_to_load.load_seconds >= 0.5 and max(slow_to_load.milliseconds) < 250


@pytest.mark.parametrize('shared', [False, True])
def test_subjects_that_fail_are_left_out(shared):
    failures: dict[str, str] = {}
    subjects = [subject('a', returning(time.sleep, 0.1)), subject('not made', partial(int, 'x')),
                subject('not run', returning(int, 'x')), subject('refused', partial(measure, (), 1)),
                subject('b', returning(time.sleep, 0.2))]
    first, second = measure(subjects, 2, warm_up=1, shared=shared, failures=failures)
    assert (first.name, second.name) == ('a', 'b')
    error = "ValueError: invalid literal for int() with base 10: 'x'"
    assert failures == {'not made': error, 'not run': error,
                        'refused': 'two rounds or more are needed to tell the spread, got 1'}
    assert 100 <= min(first.milliseconds) < 200 <= min(second.milliseconds)


def test_one_process_or_several(tmp_path):
    for shared, count in ((False, 2), (True, 1)):
        log = tmp_path / str(shared)
        measure([subject('', returning(os.system, f'echo $PPID >> {log}'))] * 2, rounds=2, warm_up=1, shared=shared)
        assert len(set(log.read_text().split())) == count


def test_memory_is_that_of_the_subject():
    subjects = [subject('small', returning(time.sleep, 0)), subject('large', returning(b'x'.__mul__, 200_000_000))]
    small, large = measure(subjects, 2)
    assert 195e6 < large.peak_bytes - small.peak_bytes < 215e6


def test_median_quartiles_and_rate():
    measurement = Measurement('', 8, [1.0, 2.0, 3.0, 4.0, 90.0], 0)
    assert measurement.median == 3 and measurement.quartiles == (1.5, 47) and measurement.rate == pytest.approx(8000 / 3)


@pytest.mark.parametrize(('failing', 'message'), [
    (subject('made wrongly', partial(int, 'x')), r'made wrongly failed: .*ValueError'),
    (subject('runs wrongly', returning(int, 'x')), r'runs wrongly failed: .*ValueError'),
    (subject('dies', returning(os._exit, 3)), 'dies failed: its process died'),
    (subject('lacks', partial(__import__, 'torch'), without=('torch', )), 'lacks failed: .*import of torch halted'),
])
def test_a_failure_is_told(failing, message):
    with pytest.raises(RuntimeError, match='(?s)' + message):
        measure([subject('fine', returning(time.sleep, 0)), failing], 2, 1)


def test_a_full_gpu_is_passed_on():
    code = "from torch import OutOfMemoryError; raise OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 MiB.')"
    with pytest.raises(OutOfMemoryError, match='^CUDA out of memory. Tried to allocate 20.00 MiB.$'):
        measure([subject('large', returning(exec, code), without=('mmengine', ))], 2, 1)


def test_one_round_has_no_spread():
    with pytest.raises(UserError, match='two rounds or more are needed to tell the spread, got 1'):
        measure([], rounds=1)


def test_threads():
    code = "import os; assert os.environ['OMP_NUM_THREADS'] == '3'"
    measure([subject('threads', returning(exec, code))], 2, 1, threads=3)


def test_markdown():
    assert markdown([dict(a=1, b='x'), dict(a=2, b='')]) == '| a | b |\n| --- | --- |\n| 1 | x |\n| 2 |  |'


@pytest.mark.parametrize(('value', 'text'), [(1234.56, '1234.6'), (12.34, '12.3'), (1.234, '1.23'), (0.41234, '0.412')])
def test_short_times_have_three_digits(value, text):
    assert milliseconds(value) == text


class Cuda:
    """A stand-in of torch.cuda that logs what is asked of it."""

    def __init__(self, initialized: bool, log: list[str]) -> None:
        self.initialized, self.log = initialized, log

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return self.initialized

    def reset_peak_memory_stats(self) -> None:
        self.log.append('reset')

    def memory_allocated(self) -> int:
        return 100

    def max_memory_allocated(self) -> int:
        return 130


@pytest.mark.parametrize(('initialized', 'expected', 'allocated'), [
    (False, ['pause', 'run'], None), (True, ['run', 'reset', 'run'], 30)], ids=['cpu', 'gpu'])
def test_cuda_is_asked_only_where_the_subject_uses_it(monkeypatch, initialized, expected, allocated):
    """A question would make a CUDA context, whose memory would count as the subject's. A GPU does not idle before its run."""
    log = []
    monkeypatch.setitem(sys.modules, 'torch', SimpleNamespace(cuda=Cuda(initialized, log)))
    monkeypatch.setattr(rounds.time, 'sleep', lambda _: log.append('pause'))
    assert rounds._timed(lambda: log.append('run'))[1] == allocated
    assert log == expected
