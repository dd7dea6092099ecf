"""Two trainings in one work dir."""
import errno
import fcntl
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from repvgg_seg.core.errors import UserError
from repvgg_seg.engine import locking
from repvgg_seg.engine.locking import LOCK, locked


@pytest.fixture
def hold() -> Iterator[Callable[[Path], int]]:
    """Lock a folder in a process that has a child, as one with a loader's worker; its id."""
    started = []

    def start(folder: Path) -> int:
        reader, writer = os.pipe()
        process = os.fork()
        if process == 0:
            try:
                with locked(folder):
                    worker = os.fork()
                    if worker:
                        os.write(writer, str(worker).encode())
                    time.sleep(60)
            finally:
                os._exit(0)
        os.close(writer)
        started.extend([process, int(os.read(reader, 20))])
        os.close(reader)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


@pytest.mark.situation('Data loss', 'two trainings in one work dir',
                       before='both ran, and left a mixture of their checkpoints',
                       now='the second one ends in one line that names the first, before it writes anything')
def test_second_one_is_refused_until_the_first_is_dead(tmp_path, hold):
    first = hold(tmp_path / 'run')
    message = re.escape(f'another training is running in {tmp_path}/run (process {first} on {socket.gethostname()} since TIME)'
                        '; wait until it ends, stop it, or choose another --work-dir').replace('TIME', r'[-\d]{10} [:\d]{8}')
    with pytest.raises(UserError, match=f'^{message}$'), locked(tmp_path / 'run'):
        pass
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    with locked(tmp_path / 'run'):  # Although the dead process's child still lives.
        assert f'process {os.getpid()} on ' in (tmp_path / 'run' / LOCK).read_text()
    with locked(tmp_path / 'run'):
        pass


def test_other_folders_are_free(tmp_path, hold):
    hold(tmp_path / 'run')
    with locked(tmp_path / 'other'):
        pass


def test_file_system_without_locks(tmp_path, monkeypatch):
    said = []

    def none(*_) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, 'lockf', none)
    monkeypatch.setattr(locking, 'print_log', lambda message, **_: said.append(message))
    with locked(tmp_path):
        pass
    assert said == [f'The file system of {tmp_path} has no locks (No locks available); start no second training there']


def test_file_that_cannot_be_written(tmp_path):
    (tmp_path / LOCK).mkdir()
    with pytest.raises(UserError, match=re.escape(f'{tmp_path}/{LOCK} cannot be written (Is a directory); choose another '
                                                  '--work-dir') + '$'), locked(tmp_path):
        pass
