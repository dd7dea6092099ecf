"""Writing files atomically: a reader, even after a crash, sees either the complete file or none of it."""
import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
MEGABYTE = 2**20


def write_atomically(data: bytes | memoryview, path: Path) -> None:
    """Write a file under a temporary name, flush it to disk, then rename it.

    Args:
        data: content of the file.
        path: path of the file. It keeps its previous content until all of ``data`` is safely on disk, even if the machine loses
            power.

    Raises:
        UserError: the file cannot be written, e.g. because the disk is full; the previous content is unharmed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(data, path)
    except OSError as error:
        raise UserError(f'{path} ({len(data) / MEGABYTE:.1f} MB) cannot be written: {_reason(error, path.parent)}; files '
                        'written before it are unharmed. Make room or choose another folder') from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file or folder under a temporary name, which replaces what has its name when the block ends.

    Args:
        path: path of the file or folder; it keeps its previous content if the block raises an exception, or writes nothing.

    Yields:
        The temporary path beside it, with the same suffix.
    """
    temporary = path.with_name(f'.{uuid.uuid4().hex}{path.suffix}')
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        if temporary.exists():
            flush(temporary)
            temporary.replace(path)
            flush(path.parent)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


@contextmanager
def telling_full_disk(path: Path, size: int) -> Iterator[None]:
    """Raise OSError for a full disk if the enclosed writing code raises an exception whose type does not tell the cause.

    Args:
        path: path of the file.
        size: required space in bytes.

    Raises:
        OSError: the enclosed code failed, and there is no space for the file.
    """
    try:
        yield
    except (RuntimeError, shutil.Error):
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            probe.write(bytes(size))
        raise


def remove_temporaries(folder: Path, pattern: str) -> None:
    """Remove files left behind by processes that were killed inside :func:`write_atomically`.

    Args:
        folder: folder that the processes wrote to.
        pattern: glob pattern of the final file names.
    """
    for file in folder.glob(f'.{pattern}.*'):
        if file.suffix[1:].isdecimal():
            file.unlink(missing_ok=True)


def identity(path: str | Path) -> tuple[int, int] | None:
    """An identity shared by all paths and links to the same file; None for a broken link."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def flush(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
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
    if os.name == 'posix':  # Only there can the entries of a folder, which a rename changes, be flushed to disk.
        flush(path.parent)


def _reason(error: OSError, folder: Path) -> str:
    if error.errno in FULL:
        return f'the disk is full ({shutil.disk_usage(folder).free / MEGABYTE:.1f} MB free) or the quota spent'
    return error.strerror or str(error)
