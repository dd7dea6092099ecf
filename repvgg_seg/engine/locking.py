"""Allow only one training at a time in a folder."""
import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log

from ..core.errors import UserError

LOCK = '.training'
HELD = (errno.EACCES, errno.EAGAIN)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other trainings.

    The main process locks a file in the folder. The operating system removes the lock when this process ends for any reason.
    Child processes do not inherit the lock, and network file systems apply it to other machines as well. If a file system does
    not support locks, a warning says so.

    Args:
        folder: folder to lock; it is created if it does not exist.

    Raises:
        UserError: another process holds the lock, or the file cannot be written. It is raised in all processes of the training.
    """
    with ExitStack() as stack:
        answer = [_lock(folder, stack) if is_main_process() else None]
        broadcast_object_list(answer)
        if answer[0]:
            raise UserError(answer[0])
        yield


def _lock(folder: Path, stack: ExitStack) -> str | None:
    """Lock a file in a folder until the stack is closed, and write the owner into it; return the reason if this fails."""
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = stack.enter_context(path.open('a+'))
    except OSError as error:
        return f'{path} cannot be written ({error.strerror}); choose another --work-dir'
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in HELD:
            print_log(f'The file system of {folder} has no locks ({error.strerror}); start no second training there',
                      logger='current', level=logging.WARNING)
            return None
        file.seek(0)
        return (f'another training is running in {folder} ({file.read() or "just started"}); wait until it ends, stop it, or '
                'choose another --work-dir')
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M:%S}')
    file.flush()
    return None
