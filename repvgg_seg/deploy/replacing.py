"""Replacing a folder in one step: readers see all of the older or all of the new one, also if this process is killed."""
import ctypes
import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError, some
from ..files import FULL, flush
from .runtime import REPORT

TEMPORARY = '.deploying-'  # Names of unfinished folders begin so, beside the folder that they will replace.
# What the tool writes into a folder.
WRITTEN = re.compile(r'deploy\.json|config\.py|model\.pth|model\.(fp32|fp16|bf16|int8)(\.ncnn)?\.(onnx|xml|bin|pt2|param)')
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # Of Linux.
CANNOT_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)  # An old kernel, or a file system without it.


def check_replaceable(out: Path) -> None:
    """Check that a folder can be written, or is an older one that can be replaced.

    Raises:
        UserError: it is a file, something else is in it, or its place cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f'{out} is a file; expected a folder to write')
    if out.is_mount():
        raise UserError(f'{out} is a mount point, which cannot be replaced at once; choose a folder in it')
    if out.exists() and not (out / REPORT).is_file() and any(out.iterdir()):
        raise UserError(f'folder {out} is not empty and was not written by this tool; choose another one')
    if foreign := sorted(path.name for path in (out.iterdir() if out.exists() else ()) if not WRITTEN.fullmatch(path.name)):
        raise UserError(f'folder {out}, which would be replaced, holds {some(foreign)}, which this tool did not write; move '
                        'that away, or choose another folder')
    for folder in (out.parent, *([out] if out.exists() else [])):
        if not os.access(folder, os.W_OK):
            raise UserError(f'folder {folder} cannot be written; choose another one')


@contextmanager
def replacement(out: Path) -> Iterator[Path]:
    """A new folder that takes the place of ``out`` when the block ends, and is removed if the block fails.

    What killed processes left beside ``out`` is removed before that. Processes that are running are recognized by a lock on
    their folder.

    Raises:
        UserError: the disk is full, or ``out`` cannot be replaced; it is what it was before.
    """
    bring_back(out)
    for abandoned in out.parent.glob(f'{TEMPORARY}*'):
        with locked(abandoned) as mine:
            if mine:
                shutil.rmtree(abandoned, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=out.parent))
    try:
        with locked(new):
            new.mkdir(exist_ok=True)  # Another process can have taken it for abandoned before it was locked.
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
    """Move a finished folder to its place, whose older content is removed after that.

    Where folders cannot be exchanged, the older one is renamed first. If the process is killed between the two steps,
    :func:`bring_back` undoes the first.
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
    """Put the older folder back that a killed process had moved away, or remove it if the new one is in its place."""
    older = place_of_older(out)
    with locked(older) as mine:
        if mine and out.exists():
            shutil.rmtree(older, ignore_errors=True)
        elif mine:
            older.rename(out)


def place_of_older(out: Path) -> Path:
    """Where the older folder is between two renames."""
    return out.with_name(f'.{out.name}.before-deploying')


def exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; False if the system cannot."""
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
        False if there is no such folder, another process holds the lock, or the file system has no locks.
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
