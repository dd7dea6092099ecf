"""Image lists of a split, such as ``train.txt``."""
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import DataError, some
from .files import stem_of


def read_list(path: str | Path) -> list[str]:
    """Read the nonempty lines of a list.

    Raises:
        DataError: the list cannot be read, or is empty.
    """
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding='utf-8').splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else 'it is not UTF-8 text'
        raise DataError(f'list {path} cannot be read ({reason}); expected a text file with one image per line') from None
    if not (names := [line for line in lines if line]):
        raise DataError(f'list {path} is empty; expected a text file with one image per line')
    return names


def listed_images(path: str, images: Sequence[str], suffixes: Sequence[str], root: str, data_root: str | None) -> list[str]:
    """Find the images that a list names, sorted.

    Args:
        path: path of the list. Each line names an image by its path relative to ``root`` or ``data_root``, with or without
            suffix.
        images: paths of all images relative to ``root``.
        suffixes: suffixes of the images.
        root: folder of the images.
        data_root: root folder of the dataset.

    Raises:
        DataError: the list cannot be read, names an image twice, or names an image that does not exist.
    """
    names = read_list(path)
    beginnings = ['', *([os.path.join(os.path.relpath(root, data_root), '')] if data_root else [])]
    by_name = defaultdict(set)
    for image in images:
        for name in (image, stem_of(image, suffixes)):
            for beginning in beginnings:
                by_name[f'{beginning}{name}'].add(image)
    if absent := [name for name in names if name not in by_name]:
        raise DataError(f'{len(absent)} of {len(names)} images in the list {path} do not exist in {root}: {some(absent)}; '
                        'correct the list, or add the images')
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f'the list {path} has {len(repeated)} images more than once: {some(repeated)}; remove the repetitions')
    return sorted({image for name in names for image in by_name[name]})
