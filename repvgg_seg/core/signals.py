"""Signals that end a command as Ctrl-C does: what it began is cleaned up, and steps that belong together are finished."""
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(KeyboardInterrupt):
    """A signal other than Ctrl-C asked the process to stop.

    Args:
        number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f'stopped by {signal.Signals(number).name}')
        self.number = number


def number_of(interrupt: KeyboardInterrupt) -> int:
    """Number of the signal that raised an exception."""
    return interrupt.number if isinstance(interrupt, Stopped) else signal.SIGINT


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Raise :class:`Stopped` in the main thread on SIGTERM, and on SIGHUP unless ``nohup`` ignores it."""
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # A forked worker, which ends as if there were no handler.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        raise Stopped(number)

    with handled_by(stop, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def postponing_signals() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP wait until the end of the block, so that its steps are all taken or none."""
    received: list[int] = []
    with handled_by(lambda number, frame: received.append(number), signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield
    if received:
        signal.raise_signal(received[0])


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], object], *numbers: int) -> Iterator[None]:
    """Handle signals in another way, except those that are ignored.

    Args:
        handler: function of the number of the signal and the current stack frame.
        numbers: numbers of the signals.
    """
    if threading.current_thread() is not threading.main_thread():  # In which Python installs no handlers.
        yield
        return
    found = {number: signal.getsignal(number) for number in numbers}
    # Python could not restore a handler that a library in C installed, which is None here.
    before = {number: each for number, each in found.items() if each not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, each in before.items():
            signal.signal(number, each)
