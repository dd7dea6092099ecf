"""Finding image files, and limiting the size of images."""
import glob
import os
from pathlib import Path

from PIL import Image

from .errors import UserError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')

MAX_PIXELS = 'REPVGG_SEG_MAX_PIXELS'  # Name of the environment variable; child processes inherit it.


def allow_large_images() -> None:
    """Let Pillow read images up to the size set in the environment; by default it refuses more than 179 megapixels.

    Raises:
        UserError: the variable is not a positive integer.
    """
    allowed = os.environ.get(MAX_PIXELS)
    if allowed is None:
        return
    if not allowed.isdecimal() or int(allowed) == 0:
        raise UserError(f'{MAX_PIXELS} is {allowed!r}; expected the largest number of pixels that an image may have')
    Image.MAX_IMAGE_PIXELS = -(-int(allowed) // 2)  # Pillow warns above this number, and refuses above twice as many.


def image_files(root: str, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> list[str]:
    """Sorted paths of the image files, or of those with other suffixes, below a folder."""
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names
                  if name.lower().endswith(suffixes))


def find_files(source: str, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> list[Path]:
    """List files, sorted: a single file, those with the given suffixes below a folder, or those that match a glob pattern."""
    path = Path(source)
    if path.is_dir():
        return sorted(map(Path, image_files(source, suffixes)))
    if path.is_file():
        return [path]
    return sorted(Path(name) for name in glob.glob(source, recursive=True) if Path(name).is_file())


def list_images(source: str) -> list[Path]:
    """List image files as :func:`find_files` does.

    Raises:
        UserError: there is no image file.
    """
    if not (found := find_files(source)):
        raise UserError(f'no image at {source}; expected an image, a folder with files that end in '
                        f'{", ".join(IMAGE_SUFFIXES)}, or a glob pattern')
    return found


def name_files(source: str, suffixes: tuple[str, ...]) -> list[tuple[str, Path]]:
    """List files, see :func:`find_files`, with names for their outputs.

    The names are those of the files without suffix, preceded by folders if they are not unique.
    """
    found = find_files(source, suffixes)
    names = [file.stem for file in found]
    if len(set(names)) < len(names) and Path(source).is_dir():
        names = ['_'.join([*file.relative_to(source).parts[:-1], file.stem]) for file in found]
    return list(zip(names, found))
