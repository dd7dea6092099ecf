"""Checking, before anything is written, that a command neither overwrites its inputs nor writes a file twice."""
import functools
import os
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from .errors import UserError
from .files import identity


class Output(NamedTuple):
    """A file that a command will write.

    Args:
        path: path of the file.
        source: file that it is made from, or the argument that names it.
    """
    path: Path
    source: str


def check_outputs(outputs: Iterable[Output], inputs: Iterable[str | Path]) -> None:
    """Check that each file that a command will write has its own path, and that no input has that path.

    Different paths can lead to the same file: relative paths, links, other case on a case-insensitive file system.

    Args:
        outputs: files that the command will write.
        inputs: files that the command reads; nonexistent ones are skipped.

    Raises:
        UserError: two outputs have the same path, an output has the path of an input, or no file can be written there.
    """
    owners: dict[object, Output] = {}
    exist, folds = False, functools.cache(ignores_case)
    for output in outputs:
        check_place(output.path)
        places = [_real(output.path, folds), identity(output.path)]
        exist |= places[1] is not None
        for place in filter(None, places):
            if (other := owners.setdefault(place, output)) is not output:
                raise UserError(f'{other.source} and {output.source} would both be written to {output.path}; give them '
                                'different names, or write them in two calls to two folders')
    for path in inputs if exist else ():
        if (owner := owners.get(identity(path))) is not None:
            raise UserError(f'{path} is read, but {owner.path} would be written over it; write to another place')


def check_replaced(folder: Path, inputs: Iterable[str | Path]) -> None:
    """Check that replacing a folder would not delete an input.

    Raises:
        UserError: an input is in the folder.
    """
    if (place := identity(folder)) is None:
        return
    for path in inputs:
        for form in (Path(os.path.abspath(path)), Path(os.path.realpath(path))):
            if any(identity(each) == place for each in (form, *form.parents)):
                raise UserError(f'{path} is read, but it is in {folder}, which would be replaced; write to another place')


def check_place(path: Path) -> None:
    """Check that a path can be used for a file.

    Raises:
        UserError: the path is a folder, or its name is too long for the file system.
    """
    if path.is_dir():
        raise UserError(f'{path} is a folder; expected the name of a file to write')
    length, limit = len(os.fsencode(path.name)), os.pathconf(_nearest(path), 'PC_NAME_MAX')
    if length > limit:
        raise UserError(f'the name {path.name} would have {length} bytes, the file system takes {limit}; give the file that it '
                        'is named after a shorter name')


def ensure_writable(folder: str | Path) -> Path:
    """Create a folder and check that files can be written to it.

    Raises:
        UserError: files cannot be written to it.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f'folder {folder} cannot be written ({error.strerror}); choose another one') from None
    return folder


def ensure_writable_file(path: str | Path) -> Path:
    """Create the folder of a file and check that the file can be written.

    Raises:
        UserError: the file cannot be written.
    """
    path = Path(path)
    check_place(path)
    ensure_writable(path.absolute().parent)
    return path


def files_of(source: str | Path) -> Iterator[Path]:
    """Iterate over a single file, or over the direct contents of a folder."""
    path = Path(source)
    yield from path.iterdir() if path.is_dir() else [path]


def ignores_case(folder: Path) -> bool:
    """Whether the file system of a folder ignores the case of names; False if that cannot be tested."""
    try:
        with tempfile.NamedTemporaryFile(prefix='.case', dir=folder) as file:
            return os.path.exists(folder / Path(file.name).name.swapcase())
    except OSError:
        return False


def _real(path: Path, folds: Callable[[Path], bool]) -> str:
    """Canonical form of a path, equal for all paths to the same file; ``folds`` is a function like :func:`ignores_case`."""
    real = os.path.realpath(path)
    return unicodedata.normalize('NFC', real).casefold() if folds(_nearest(Path(real))) else real


def _nearest(path: Path) -> Path:
    """Nearest existing folder above a path."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())
