"""Determining which files in a dataset's folders are images, and which image files are left out."""
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from mmengine.logging import MMLogger

from ..core.errors import DataError, some
from ..core.images import IMAGE_SUFFIXES

# Image formats that no dataset here reads; files in these formats are reported.
OTHER_SUFFIXES = ('.avif', '.cr2', '.dds', '.dng', '.exr', '.gif', '.hdr', '.heic', '.heif', '.ico', '.j2k', '.jp2', '.jxl',
                  '.nef', '.npy', '.pbm', '.pcx', '.pnm', '.psd', '.svg', '.tga')
# Suffixes of label files, in order of preference: lossless formats.
LABEL_SUFFIXES = ('.png', '.tif', '.tiff', '.bmp')
HIDDEN = 'because they are hidden'
SPECIAL = 'because they are pipes, sockets or devices'

Unused = dict[str, list[str]]  # Reason for leaving image files out -> their paths.


class Images(NamedTuple):
    """The image files below a folder.

    Args:
        used: paths of the images to use, relative to the folder, sorted.
        unused: image files that are left out.
    """
    used: list[str]
    unused: Unused


def find_images(root: str, suffixes: Sequence[str] = IMAGE_SUFFIXES, skip: Iterable[str] = ()) -> Images:
    """Find the image files below a folder.

    Args:
        root: folder to search; links in it are followed, and each folder is entered only once, because links can form loops.
        suffixes: suffixes of the wanted images; case is ignored.
        skip: names of folders in it that are not entered.

    Raises:
        DataError: a folder cannot be read.
    """
    used, unused = [], defaultdict(list)
    for entry in walk(root, skip):
        path = os.path.relpath(entry.path, root)
        wanted = stem_of(path, suffixes) is not None
        if not wanted and not path.lower().endswith((*IMAGE_SUFFIXES, *OTHER_SUFFIXES)):
            continue
        if any(map(is_hidden, path.split(os.sep))):
            unused[HIDDEN].append(entry.path)
        elif is_special(entry.path):
            unused[SPECIAL].append(entry.path)
        elif not wanted:
            unused[f'because their names do not end in {some(suffixes)}'].append(entry.path)
        else:
            used.append(path)
    return Images(sorted(used), {reason: sorted(paths) for reason, paths in unused.items()})


def walk(root: str, skip: Iterable[str] = ()) -> Iterator[os.DirEntry]:
    """Iterate over everything below a folder except folders; folders in it whose names are in ``skip`` are not entered."""
    pending, entered = [root], {os.path.realpath(os.path.join(root, name)) for name in skip}
    while pending:
        folder = pending.pop()
        if (place := os.path.realpath(folder)) in entered:
            continue
        entered.add(place)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f'folder {folder} cannot be read ({error.strerror}); make it readable, or remove it') from None
        # If links lead to a folder, its files are listed under the folder's own name.
        folders = [entry for entry in entries if os.path.isdir(entry.path)]
        pending += [entry.path for entry in reversed(sorted(folders, key=lambda entry: entry.is_symlink()))]
        yield from (entry for entry in entries if not os.path.isdir(entry.path))


def is_hidden(name: str) -> bool:
    """Whether a system or tool created a file or folder for itself, such as ``.ipynb_checkpoints``."""
    return name.startswith('.') or name == '__MACOSX'


def is_special(path: str) -> bool:
    """Whether a path leads to a pipe, a socket or a device, which might block a reader forever."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def refuse_special(path: str, kind: str) -> None:
    """Check that a path does not lead to a pipe, a socket or a device; ``kind`` is the kind of file, for the message.

    Raises:
        DataError: the path leads to one of these.
    """
    if is_special(path):
        raise DataError(f'{kind} {path} is a pipe, a socket or a device, not a file; remove it', f'no {kind} file')


def stem_of(path: str, suffixes: Iterable[str]) -> str | None:
    """Strip the first matching suffix from a path, ignoring case; None if no suffix matches."""
    lower = path.lower()
    return next((path[:-len(suffix)] for suffix in suffixes if lower.endswith(suffix.lower())), None)


def describe_unused(unused: Mapping[str, Sequence[str]]) -> list[str]:
    """Write, for each reason, a sentence that counts and names the image files left out for it."""
    return [f'{len(paths)} image file(s) are not used, {reason}: {some(paths)}' for reason, paths in unused.items()]


def warn_of_unused(name: str, unused: Mapping[str, Sequence[str]]) -> None:
    """Log the image files that a dataset leaves out."""
    for sentence in describe_unused(unused):
        MMLogger.get_current_instance().warning(f'{name}: {sentence}')
