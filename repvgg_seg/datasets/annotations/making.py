"""Making label files, PNGs of class indices, from annotations."""
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

from ...core.command_names import command
from ...core.destinations import Output, check_outputs, ensure_writable
from ...core.errors import DataError, UserError, some
from ...core.labels import IGNORE, check_class_count
from ...core.visualization import distinct_colors, save_labels
from ..files import is_hidden, walk
from ..lists import read_list
from .coco import is_coco, read_coco
from .labelme import is_labelme, read_labelme
from .regions import AnnotatedImage, coco_masks, rasterize

CLASSES_FILE = 'classes.txt'  # In the folder of the labels.
LABELME_IGNORED = '__ignore__'  # LabelMe's own name for what is ignored.
LABELME_BACKGROUND = '_background_'
EXPECTED = "expected one file in COCO's format, or a folder of LabelMe's JSON files"


@dataclass(frozen=True)
class Made:
    """What was made.

    Args:
        classes: names, in the order of their indices.
        images: how many label files.
        regions: of each class.
        pixels: of each class, then the ignored ones.
        empty: annotations that cover nothing.
        order: how overlapping regions were drawn, in words.
    """
    classes: list[str]
    images: int
    regions: list[int]
    pixels: list[int]
    empty: int
    order: str

    def table(self) -> Table:
        """Classes, regions and shares of the pixels, for a terminal."""
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
        names: of the classes, as far as the files order them.
        order: in which regions are drawn unless a user chooses it: 'file' or 'area'.
    """
    images: list[AnnotatedImage]
    names: list[str]
    order: str


def make_labels(source: Path, out: Path, classes_file: str | None = None, background: str | None = 'background',
                ignored: Sequence[str] = (), order: str | None = None, crowd: str = 'ignored') -> Made:
    """Rasterize annotations; all of them, or nothing is written.

    Args:
        source: a JSON file in COCO's format, a JSON file of LabelMe, or a folder of such.
        out: folder to write: a label file for each image, named like it and ending in .png, and ``classes.txt``.
        classes_file: a file with the names of the classes, one a line, in the order of their indices; by default COCO's
            categories in the order of their ids, or LabelMe's labels in the order of the alphabet.
        background: name of the class of what no region covers; it becomes the first class unless it is among the classes. None
            if that is ignored.
        ignored: labels whose regions are ignored.
        order: 'file' to draw later regions over earlier ones (the default for LabelMe), 'area' to draw smaller ones over larger
            ones (the default for COCO, whose order means nothing).
        crowd: 'ignored', or 'class' to count COCO's crowd regions as their class. They are below all other regions.

    Raises:
        DataError: annotations are broken, or of a class that is not in the file.
        UserError: ``out`` is not empty or cannot be written, or no region has a label of ``ignored``.
        InstallationError: pycocotools is missing.
    """
    coco_masks()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f'{out} exists and is not an empty folder; choose another one')
    annotations = read_annotations(source)
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


def find_annotations(root: Path) -> Path | None:
    """What :func:`make_labels` takes below a folder: its file in COCO's format, or the folder itself if it has LabelMe's.

    Raises:
        DataError: a JSON file cannot be read, or there are several in COCO's format.
    """
    kinds = {path: is_labelme(content) for path in json_files(root) for content in [read_json(path)]
             if is_labelme(content) or is_coco(content)}
    if any(kinds.values()):
        return root
    if len(kinds) > 1:
        raise DataError(f"{root} has {len(kinds)} files in COCO's format: {some(kinds)}; merge them into one, or make label "
                        "files from "
                        f'each with {command("make-labels")}')
    return next(iter(kinds), None)


def json_files(root: Path) -> list[Path]:
    """The JSON files below a folder, sorted."""
    return sorted(Path(entry.path) for entry in walk(str(root))
                  if entry.name.lower().endswith('.json') and not is_hidden(entry.name))


def read_annotations(source: Path) -> Annotations:
    """Read a file of annotations, or a folder of such files.

    Raises:
        DataError: there is none, one is broken, or they are of different formats.
    """
    files = json_files(source) if source.is_dir() else [source]
    root, images = source if source.is_dir() else source.parent, []
    for path in files:
        content = read_json(path)  # Which can have the pixels of the image in it; they are dropped at once.
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
    """What a JSON file holds.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f'{path} cannot be read ({error.strerror}); expected a JSON file of annotations') from None
    except ValueError as error:
        raise DataError(f'{path} is no JSON file ({error}); {EXPECTED}') from None


def check_names(images: Sequence[AnnotatedImage], source: Path, out: Path) -> None:
    """Check that each label file gets a name of its own, below the folder.

    Raises:
        DataError, UserError: it does not.
    """
    if outside := [image.name for image in images if Path(image.name).is_absolute() or '..' in Path(image.name).parts]:
        raise DataError(f'{source} has images outside the folder of images: {some(outside)}; make their paths relative to it')
    check_outputs((Output(out / f'{image.name}.png', f'an image {image.name}') for image in images), [])


@contextmanager
def unfinished(out: Path) -> Iterator[Path]:
    """A new folder that becomes ``out`` when the block ends, and is removed if the block fails."""
    ensure_writable(out.absolute().parent)
    new = Path(tempfile.mkdtemp(prefix=f'.{out.name}-', dir=out.absolute().parent))
    try:
        yield new
        new.chmod(0o755)
        new.replace(out)
    finally:
        shutil.rmtree(new, ignore_errors=True)
