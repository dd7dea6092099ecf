"""The line that shows the progress of a training: on terminals only, by the main process only, and beside a complete log."""
import contextlib
import io
import logging
import re
import sys
from types import SimpleNamespace

import pytest
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop
from rich.console import Console
from runs import Moment, run, settings

from repvgg_seg.engine import live_line
from repvgg_seg.engine.checkpointing import validations_left
from repvgg_seg.engine.live_line import is_not_replaced, with_bar

LAST = re.compile(r'epoch 4/4, validation 3/3, loss \d\.\d{3}, acc (0\.\d\d) \(best 0\.\d\d\), ETA 0:00:00 ')


class Terminal(io.StringIO):
    """What a terminal was sent; a cursor that is hidden stays so."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """Without colors, each state of the line on its own."""
        return re.split(r'[\r\n]+', re.sub(r'\x1b\[[0-9;?]*[a-zA-Z]', '', self.getvalue()))


@pytest.fixture
def terminal(monkeypatch) -> Terminal:
    for name in ('NO_COLOR', 'FORCE_COLOR', 'TTY_COMPATIBLE', 'TTY_INTERACTIVE'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.setenv('COLUMNS', '120')
    monkeypatch.setattr(live_line, 'REFRESH', 0)
    return Terminal()


def run_in(terminal: Terminal, work_dir, *hooks: dict, **changes) -> str:
    """Train with this stdout, which must be what it was at the end; see ``runs.run``."""
    config = settings(work_dir, **{'log_level': 'INFO', 'default_hooks.logger.interval': 1, **changes})
    with contextlib.redirect_stdout(terminal):
        ended = run(config, *hooks)
        assert sys.stdout is terminal
    return ended


def log_of(work_dir) -> str:
    path, = work_dir.glob('*/*.log')
    return path.read_text()


def test_one_line_in_place_of_the_log(terminal, tmp_path):
    assert run_in(terminal, tmp_path) == 'done'
    lines, log = terminal.lines(), log_of(tmp_path)
    drawn = [line for line in lines if line.startswith('epoch ')]
    shown = [re.match(r'epoch (\d)/4, (iteration|validation) (\d)/3, ', line).groups() for line in drawn]
    assert [*dict.fromkeys(shown)] == [(str(epoch), stage, str(step)) for epoch in (1, 2, 3, 4)
                                       for stage in ('iteration', 'validation') for step in (1, 2, 3)]
    assert float(LAST.match(drawn[-1])[1]) == pytest.approx(float(re.findall(r'acc: (\S+)', log)[-1]), abs=0.005)
    assert not [line for line in lines if 'Epoch(train)' in line] and len(re.findall(r'Epoch\(train\) +\[', log)) == 12
    assert sum('Epoch(val) [' in line for line in lines) == 4  # The result of each validation.
    assert '\x1b[?25l' not in terminal.getvalue()


def test_iterations_without_epochs(terminal, tmp_path):
    changes = dict(train_cfg=dict(by_epoch=False, max_iters=5, val_interval=2), param_scheduler=[])
    assert run_in(terminal, tmp_path, **changes, **{'default_hooks.checkpoint.by_epoch': False}) == 'done'
    drawn = [line.split(',')[0] for line in terminal.lines() if line.startswith(('iteration', 'validation'))]
    validation = [f'validation {step}/3' for step in (1, 2, 3)]
    assert [*dict.fromkeys(drawn)] == ['iteration 1/5', 'iteration 2/5', *validation, 'iteration 3/5', 'iteration 4/5',
                                       'iteration 5/5']


@pytest.mark.parametrize('reason', ['no terminal', 'dumb terminal', 'second process'])
def test_plain_log(terminal, tmp_path, monkeypatch, reason):
    if reason == 'no terminal':
        monkeypatch.setattr(Terminal, 'isatty', lambda self: False)
    elif reason == 'dumb terminal':
        monkeypatch.setenv('TERM', 'dumb')
    else:
        monkeypatch.setattr(live_line, 'is_main_process', lambda: False)
    assert run_in(terminal, tmp_path) == 'done'
    lines = terminal.lines()
    assert sum('Epoch(train)' in line for line in lines) == 12 and not [line for line in lines if line.startswith('epoch ')]


def test_an_interruption_restores_the_terminal(terminal, tmp_path):
    logger: list[logging.Logger] = []

    class Look(Moment):
        def called(self, runner, *_, **__) -> None:
            logger[:] = [runner.logger]
            super().called(runner)

    HOOKS.register_module(module=Look, force=True)
    stop = dict(type='Look', stage='after_train_iter', iterations=2)
    assert run_in(terminal, tmp_path, stop).startswith('stopped by SIGTERM')
    handler = next(handler for handler in logger[0].handlers if type(handler) is logging.StreamHandler)
    assert handler.stream is terminal and is_not_replaced not in handler.filters
    assert terminal.lines()[-2].startswith('epoch 1/4, iteration 1/3') and terminal.lines()[-1] == ''


@pytest.mark.parametrize(('width', 'expected'), [
    (40, 'epoch 1/2, ETA 0:00:10 '), (60, 'epoch 1/2, ETA 0:00:10 ' + '=' * 20), (15, 'epoch 1/2, ETA')])
def test_narrow_terminals(width, expected):
    file = io.TextIOWrapper(io.BytesIO(), 'ascii')
    assert with_bar('epoch 1/2, ETA 0:00:10', 0.5, Console(file=file, width=width)).plain == expected


@pytest.mark.parametrize(('message', 'shown'), [
    ('Epoch(train) [1][20/46]  eta: 0:01:00  time: 1.0', False), ('Iter(train) [20/46]  lr: 1e-2  eta: 0:01:00', False),
    ('Epoch(val)   [1][20/46]    eta: 0:01:00  time: 1.0', False),
    ('Epoch(val) [1][46/46]    mIoU: 50.0  data_time: 0.1', True), ('Saving checkpoint at 1 epochs', False),
    ('The best checkpoint with 8.4400 mIoU at 1 epoch is saved to a.pth.', True)])
def test_what_the_line_replaces(message, shown):
    assert is_not_replaced(logging.LogRecord('', logging.INFO, '', 0, message, (), None)) == shown
    assert is_not_replaced(logging.LogRecord('', logging.WARNING, '', 0, message, (), None))


@pytest.mark.parametrize(('done', 'begin', 'interval', 'left'), [
    (0, 1, 1, 10), (0, 1, 3, 4), (9, 1, 3, 1), (10, 1, 3, 0), (0, 5, 2, 3), (0, 11, 1, 0), (5, 1, 10, 1)])
@pytest.mark.parametrize('by_epoch', [True, False])
def test_validations_left(done, begin, interval, left, by_epoch):
    """As many as MMEngine's loops make until step 10."""
    loop = SimpleNamespace() if by_epoch else IterBasedTrainLoop.__new__(IterBasedTrainLoop)
    loop.val_begin, loop.val_interval = begin, interval
    steps = dict(epoch=done, max_epochs=10) if by_epoch else dict(iter=done, max_iters=10)
    runner = SimpleNamespace(train_loop=loop, val_loop=object(), **steps)
    assert validations_left(runner) == left == sum(
        step >= begin and (step % interval == 0 or step == 10) for step in range(done + 1, 11))
