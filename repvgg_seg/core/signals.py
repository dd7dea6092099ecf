"""Signals that end a command as Ctrl-C does: what it began is cleaned up."""
import os
import signal
import threading
from collections.abc import Iterator
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

    if threading.current_thread() is not threading.main_thread():  # In which Python installs no handlers.
        yield
        return
    found = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    # Python could not restore a handler that a library in C installed, which is None here.
    before = {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
