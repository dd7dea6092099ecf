"""Writing files so that a reader, or whoever comes after a crash, sees all of them or nothing."""
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
MEGABYTE = 2**20


def write_atomically(data: bytes | memoryview, path: Path) -> None:
    """Write a file under a temporary name, force it onto the disk, then rename it.

    Args:
        data: what it holds.
        path: of the file. It keeps what it held before until all of ``data`` is safe, also when the machine loses power.

    Raises:
        UserError: it cannot be written, e.g. because the disk is full; what was there before is unharmed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(data, path)
    except OSError as error:
        raise UserError(f'{path} ({len(data) / MEGABYTE:.1f} MB) cannot be written: {_reason(error, path.parent)}; files '
                        'written before it are unharmed. Make room or choose another folder') from None


@contextmanager
def telling_full_disk(path: Path, size: int) -> Iterator[None]:
    """Let a full disk raise OSError where what writes a file raises a RuntimeError that does not say why.

    Args:
        path: of the file.
        size: what it needs, in bytes.

    Raises:
        OSError: the block failed, and there is no room for the file.
    """
    try:
        yield
    except RuntimeError:
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            probe.write(bytes(size))
        raise


def remove_temporaries(folder: Path, pattern: str) -> None:
    """Remove what processes that were killed inside :func:`write_atomically` left behind.

    Args:
        folder: where they wrote.
        pattern: glob pattern of the names that they were to write.
    """
    for file in folder.glob(f'.{pattern}.*'):
        if file.suffix[1:].isdecimal():
            file.unlink(missing_ok=True)


def identity(path: str | Path) -> tuple[int, int] | None:
    """What all paths and links to one file share; None where a link leads to nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def flush(path: Path) -> None:
    """Force a file, or the entries of a folder, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(data: bytes | memoryview, path: Path) -> None:
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        with open(temporary, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == 'posix':  # Only there a folder's entries, which a rename changes, can be forced onto the disk.
        flush(path.parent)


def _reason(error: OSError, folder: Path) -> str:
    if error.errno in FULL:
        return f'the disk is full ({shutil.disk_usage(folder).free / MEGABYTE:.1f} MB free) or the quota spent'
    return error.strerror or str(error)
