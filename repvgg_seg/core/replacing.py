"""Replace a folder atomically: readers see either the whole old or the whole new folder, even if this process is killed."""
import ctypes
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError
from .files import FULL, flush

TEMPORARY = '.unfinished-'  # Prefix of unfinished folders, which are created next to the folder that they will replace.
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # Linux constants.
CANNOT_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)  # The kernel is too old, or the file system lacks support.


@contextmanager
def replacement(out: Path) -> Iterator[Path]:
    """Create a new folder that replaces ``out`` when the block ends, and is removed if the block fails.

    Folders that killed processes left next to ``out`` are removed first. Processes that are still running are recognized by a
    lock on their folder.

    Raises:
        UserError: the disk is full, or ``out`` cannot be replaced; ``out`` is left unchanged.
    """
    bring_back(out)
    for abandoned in out.parent.glob(f'{TEMPORARY}*'):
        with locked(abandoned) as mine:
            if mine:
                shutil.rmtree(abandoned, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=out.parent))
    try:
        with locked(new):
            new.mkdir(exist_ok=True)  # Another process may have removed it as abandoned before it was locked.
            yield new
            new.chmod(0o755)
            try:
                put_in_place(new, out)
            except OSError as error:
                raise UserError(f'{out} cannot be replaced ({error.strerror}), it is what it was before; choose another '
                                'folder') from None
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(f'{out} cannot be written: the disk is full or the quota spent; what was there before is unharmed. '
                        'Make room, or choose another folder') from None
    finally:
        shutil.rmtree(new, ignore_errors=True)


def put_in_place(new: Path, out: Path) -> None:
    """Move a finished folder into place, then remove the old folder.

    If the system cannot exchange folders, the old folder is renamed first. If the process is killed between the two renames,
    :func:`bring_back` undoes the first one.
    """
    for path in (*new.rglob('*'), new):
        flush(path)
    if not out.exists():
        new.rename(out)
    elif not exchange(new, out):
        older = place_of_older(out)
        with locked(out):
            out.rename(older)
            try:
                new.rename(out)
            except BaseException:
                older.rename(out)
                raise
        shutil.rmtree(older, ignore_errors=True)
    flush(out.parent)
    shutil.rmtree(new, ignore_errors=True)


def bring_back(out: Path) -> None:
    """Restore the old folder that a killed process had renamed, or remove it if the new folder is already in place."""
    older = place_of_older(out)
    with locked(older) as mine:
        if mine and out.exists():
            shutil.rmtree(older, ignore_errors=True)
        elif mine:
            older.rename(out)


def place_of_older(out: Path) -> Path:
    """Path of the old folder between the two renames."""
    return out.with_name(f'.{out.name}.before-replacing')


def exchange(one: Path, other: Path) -> bool:
    """Exchange two folders atomically. Returns False if the system does not support it."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), 'renameat2', None)
    if renameat2 is None:
        return False
    if renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    if (code := ctypes.get_errno()) in CANNOT_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(other))


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Lock a folder until the block or the process ends.

    Yields:
        Whether the lock was acquired: False if the folder does not exist, another process holds the lock, or the file system
        does not support locks.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = True
        except OSError:
            mine = False
        yield mine
    finally:
        os.close(descriptor)
