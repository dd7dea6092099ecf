"""Make label files, which are PNGs of class indices, from annotations."""
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.progress import track
from rich.table import Table

from ...core.destinations import Output, check_outputs, ensure_writable
from ...core.errors import DataError, UserError, some
from ...core.labels import IGNORE, check_class_count
from ...core.visualization import distinct_colors, save_labels
from ..files import is_hidden, walk
from ..lists import read_list
from .coco import is_coco, read_coco
from .labelme import is_labelme, read_labelme
from .regions import AnnotatedImage, coco_masks, rasterize

CLASSES_FILE = 'classes.txt'  # In the label folder.
LABELME_IGNORED = '__ignore__'  # LabelMe's name for ignored regions.
LABELME_BACKGROUND = '_background_'
EXPECTED = "expected one file in COCO's format, or a folder of LabelMe's JSON files"


@dataclass(frozen=True)
class Made:
    """Summary of the label files that were made.

    Args:
        classes: names of the classes in the order of their indices.
        images: number of label files.
        regions: number of regions of each class.
        pixels: number of pixels of each class, followed by the number of ignored pixels.
        empty: number of annotations that cover no pixels.
        order: description of how overlapping regions were drawn.
    """
    classes: list[str]
    images: int
    regions: list[int]
    pixels: list[int]
    empty: int
    order: str

    def table(self) -> Table:
        """Table of classes, numbers of regions and shares of pixels, for a terminal."""
        table = Table('index', 'class', title=f'{self.images} label files; {self.order}')
        for column in ('regions', 'pixels'):
            table.add_column(column, justify='right')
        total = max(1, sum(self.pixels))
        rows = [*enumerate(zip(self.classes, self.regions)), (IGNORE, ('ignored', ''))]
        for (index, (name, count)), pixels in zip(rows, self.pixels):
            table.add_row(str(index), name, str(count), f'{pixels / total:.2%}')
        return table


class Annotations(NamedTuple):
    """Annotations of a set of images.

    Args:
        images: the images.
        names: names of the classes, in order.
        order: default order in which regions are drawn: 'file' or 'area'.
    """
    images: list[AnnotatedImage]
    names: list[str]
    order: str


def make_labels(source: Path, out: Path, classes_file: str | None = None, background: str | None = 'background',
                ignored: Sequence[str] = (), order: str | None = None, crowd: str = 'ignored') -> Made:
    """Rasterize annotations. Either all label files are written or none.

    Args:
        source: JSON file in COCO's format, JSON file of LabelMe, or folder of LabelMe's JSON files.
        out: folder to write. It contains a PNG for each image, with the name of the image, and ``classes.txt``.
        classes_file: file with the names of the classes in the order of their indices, one per line; by default COCO's
            categories in the order of their ids, or LabelMe's labels in alphabetical order.
        background: name of the class of pixels that no region covers. It becomes the first class unless it is among the
            classes. None ignores these pixels.
        ignored: labels whose regions are ignored.
        order: 'file' to draw later regions over earlier ones (the default for LabelMe), or 'area' to draw smaller regions over
            larger ones (the default for COCO, whose order has no meaning).
        crowd: 'ignored', or 'class' to count COCO's crowd regions as their class. They are drawn below all other regions.

    Raises:
        DataError: an annotation is invalid, or has a class that is not in the file.
        UserError: ``out`` is not empty or cannot be written, or no region has one of the ``ignored`` labels, or
            ``crowd`` is for files that cannot have crowd regions.
        InstallationError: pycocotools is missing.
    """
    coco_masks()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f'{out} exists and is not an empty folder; choose another one')
    annotations = read_annotations(source)
    if crowd == 'class' and annotations.order == 'file':
        raise UserError(f"--crowd is for COCO's crowd regions, but {source} has LabelMe's files; leave it out")
    regions = Counter(region.name for image in annotations.images for region in image.regions)
    if absent := [name for name in ignored if name not in regions]:
        raise UserError(f'--ignore {some(absent)}: no region of {source} has that label; the labels are '
                        f'{some(sorted(regions))}')
    omitted = {LABELME_IGNORED, *ignored}
    classes = list(dict.fromkeys(read_list(classes_file) if classes_file else [
        name for name in annotations.names if name not in {LABELME_BACKGROUND, *omitted}]))
    if background is not None and background not in classes:
        classes.insert(0, background)
    check_class_count(len(classes), str(source))
    indices = {name: index for index, name in enumerate(classes)}
    uncovered = IGNORE if background is None else indices[background]
    written = {LABELME_BACKGROUND: uncovered, **indices, **{name: IGNORE for name in omitted}}
    if unknown := sorted(name for name in regions if name not in written):
        raise DataError(f'{source} has labels that are not among the classes in {classes_file}: {some(unknown)}; add them, or '
                        'leave them out with --ignore')
    check_names(annotations.images, source, out)
    by_area = (order or annotations.order) == 'area'
    pixels = np.zeros(IGNORE + 1, np.int64)
    with unfinished(out) as new:
        for image in track(annotations.images, description='Drawing labels'):
            labels = rasterize(image, written, uncovered, by_area, crowd == 'class')
            pixels += np.bincount(labels.ravel(), minlength=IGNORE + 1)
            path = new / f'{image.name}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            save_labels(path, labels, distinct_colors(classes))
        (new / CLASSES_FILE).write_text(''.join(f'{name}\n' for name in classes), encoding='utf-8')
    return Made(classes, len(annotations.images), [regions[name] for name in classes],
                pixels[[*range(len(classes)), IGNORE]].tolist(), sum(image.empty for image in annotations.images),
                'smaller regions over larger ones' if by_area else 'later regions over earlier ones')


def find_annotations(root: Path) -> list[Path]:
    """Find the sources for :func:`make_labels` in a folder.

    Returns:
        The files in COCO's format; or the folder itself, if it has LabelMe's files. Empty if there are none.

    Raises:
        DataError: a JSON file cannot be read.
    """
    kinds = {path: is_labelme(content) for path in json_files(root) for content in [read_json(path)]
             if is_labelme(content) or is_coco(content)}
    return [root] if any(kinds.values()) else [*kinds]


def common_classes(sources: Sequence[Path]) -> list[str]:
    """Classes of several files in COCO's format: those of the first file in the order of their ids, then any others."""
    return list(dict.fromkeys(name for source in sources for name in read_annotations(source).names))


def json_files(root: Path) -> list[Path]:
    """JSON files below a folder, sorted."""
    return sorted(Path(entry.path) for entry in walk(str(root))
                  if entry.name.lower().endswith('.json') and not is_hidden(entry.name))


def read_annotations(source: Path) -> Annotations:
    """Read a file of annotations, or a folder of such files.

    Raises:
        DataError: there is no file, a file is invalid, or the files have different formats.
    """
    files = json_files(source) if source.is_dir() else [source]
    root, images = source if source.is_dir() else source.parent, []
    for path in files:
        content = read_json(path)  # May include the pixels of the image, so only one file is in memory at a time.
        if is_labelme(content):
            images.append(read_labelme(content, path, path.relative_to(root).with_suffix('').as_posix()))
        elif not is_coco(content):
            raise DataError(f"{path} is neither in COCO's format nor in LabelMe's; {EXPECTED}")
        elif len(files) > 1:
            raise DataError(f"{path} is in COCO's format, but {len(files) - 1} other JSON files are beside it; {EXPECTED}")
        else:
            return Annotations(*read_coco(content, path), 'area')
    if not images:
        raise DataError(f'{source} has no file that ends in .json; {EXPECTED}')
    return Annotations(images, sorted({region.name for image in images for region in image.regions}), 'file')


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f'{path} cannot be read ({error.strerror}); expected a JSON file of annotations') from None
    except ValueError as error:
        raise DataError(f'{path} is not a JSON file ({error}); {EXPECTED}') from None


def check_names(images: Sequence[AnnotatedImage], source: Path, out: Path) -> None:
    """Check that the label files have different names and are below the output folder.

    Raises:
        DataError: an image is outside the image folder.
        UserError: two images would have the same label file.
    """
    if outside := [image.name for image in images if Path(image.name).is_absolute() or '..' in Path(image.name).parts]:
        raise DataError(f'{source} has images outside the folder of images: {some(outside)}; make their paths relative to it')
    check_outputs((Output(out / f'{image.name}.png', f'an image {image.name}') for image in images), [])


@contextmanager
def unfinished(out: Path) -> Iterator[Path]:
    """Yield a new folder that is renamed to ``out`` at the end of the block, or removed if the block fails."""
    ensure_writable(out.absolute().parent)
    new = Path(tempfile.mkdtemp(prefix=f'.{out.name}-', dir=out.absolute().parent))
    try:
        yield new
        new.chmod(0o755)
        new.replace(out)
    finally:
        shutil.rmtree(new, ignore_errors=True)
