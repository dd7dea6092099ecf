"""Find the image folders and the label folders of a dataset from the file names and the contents of a few files."""
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...core.errors import DataError, some
from ...core.images import IMAGE_SUFFIXES
from ..files import LABEL_SUFFIXES, is_hidden, stem_of, walk
from ..loading import UNREADABLE

SPLITS = {'train': 'train', 'training': 'train', 'val': 'val', 'valid': 'val', 'validation': 'val', 'dev': 'val',
          'test': 'test', 'testing': 'test'}
LABEL_WORDS = ('mask', 'label', 'annot', 'segment', 'target', 'truth', 'gt')
LOOKED_AT = 3  # Number of files per folder that are opened to distinguish labels from images.
MAX_COLORS = 1024  # Labels have fewer colors than this.


@dataclass(frozen=True)
class Paired:
    """A folder of images and the folder of their labels.

    Args:
        images: image folder.
        labels: label folder.
        suffix: the part of a label file's name that follows the name of the image without its suffix.
        pairs: paths of images and their labels, relative to their folders, sorted.
        unlabeled: number of images in the image folder that have no label.
        shared: whether the image folder also has images of other splits.
    """
    images: Path
    labels: Path
    suffix: str
    pairs: list[tuple[str, str]]
    unlabeled: int = 0
    shared: bool = False


@dataclass(frozen=True)
class Candidate:
    """A possible image folder and label folder, with file names that are the same except for the labels' suffix."""
    images: Path
    labels: Path
    suffix: str
    files: int


def find_paired(root: Path, lossy: bool = False) -> dict[str, Paired]:
    """Find the folders of images and labels below a folder.

    Args:
        root: folder to search.
        lossy: whether labels may be files with lossy compression, such as JPEG.

    Returns:
        The folders of each split ('train', 'val' or 'test'), or those of 'all' if there are no folders of splits. Empty if no
        folders are found.

    Raises:
        DataError: there are several folders of images with labels that are not splits.
    """
    found: dict[str, list[Paired]] = defaultdict(list)
    for (images, labels, suffix), parts in _group(root, _choose(root, lossy)).items():
        split = next((name for part in reversed(images.relative_to(root).parts) if (name := split_of(part))), 'all')
        found[split].append(_pair(images, labels, suffix, parts))
    if several := [places for places in found.values() if len(places) > 1]:
        raise DataError(f'{root} has several folders of images with labels: {some(paired.images for paired in several[0])}; '
                        'give one of them, or put them into one folder of images and one of labels')
    splits = {split: places[0] for split, places in found.items()}
    if len(splits) > 1:
        splits.pop('all', None)
    return splits


def split_of(name: str) -> str | None:
    """Split named by a folder or file, such as trainannot, val2017 or camvid_test; None if the name contains no split."""
    for word in re.split(r'[^a-z]+', name.lower()):
        if split := SPLITS.get(word) or SPLITS.get(re.sub(f'({"|".join(LABEL_WORDS)}).*', '', word)):
            return split
    return None


def image_names(root: Path) -> dict[Path, list[str]]:
    """Names of the image files in each folder below a folder, without hidden files."""
    names = defaultdict(list)
    for entry in walk(str(root)):
        path = Path(entry.path)
        if path.name.lower().endswith(IMAGE_SUFFIXES) and not any(map(is_hidden, path.relative_to(root).parts)):
            names[path.parent].append(path.name)
    return names


def _choose(root: Path, lossy: bool) -> list[Candidate]:
    """Choose the most likely label folder for each image folder."""
    names = image_names(root)
    votes = _vote(names, IMAGE_SUFFIXES if lossy else LABEL_SUFFIXES)
    colors: dict[tuple[Path, str], int] = {}

    def colors_of(folder: Path, files: Sequence[str], key: str) -> int:
        if (folder, key) not in colors:
            chosen = sorted(files)[::max(1, len(list(files)) // LOOKED_AT)]
            colors[folder, key] = int(np.median([_count_colors(folder / name) for name in chosen]))
        return colors[folder, key]

    candidates = []
    for (images, labels, suffix), pairs in votes.items():
        in_labels = [name for name in names[labels] if name.lower().endswith(suffix)]
        if 2 * len(pairs) < len(in_labels):
            continue  # The names are similar by chance.
        image_colors = colors_of(images, [image for image, _ in pairs], '' if images != labels else f'beside {suffix}')
        label_colors = colors_of(labels, [label for _, label in pairs], '' if images != labels else suffix)
        if label_colors < image_colors and label_colors <= (256**2 if lossy else MAX_COLORS):
            candidates.append((Candidate(images, labels, suffix, len(pairs)), label_colors))

    def likeliness(candidate: Candidate, label_colors: int) -> tuple:
        name = f'{candidate.labels.relative_to(root)}{candidate.suffix}'.lower()
        worded = any(word in name for word in LABEL_WORDS)
        return candidate.files, worded, -label_colors, -len(candidate.suffix), str(candidate.labels)

    best: dict[Path, tuple[tuple, Candidate]] = {}
    for candidate, label_colors in candidates:
        if (rank := likeliness(candidate, label_colors)) > best.get(candidate.images, ((), candidate))[0]:
            best[candidate.images] = rank, candidate
    label_folders = {candidate.labels for _, candidate in best.values() if candidate.labels != candidate.images}
    return [candidate for images, (_, candidate) in best.items() if images not in label_folders]


def _vote(names: dict[Path, list[str]], suffixes: Sequence[str]) -> dict[tuple[Path, Path, str], list[tuple[str, str]]]:
    """For each image folder, label folder and label suffix, list the names of matching images and labels.

    Args:
        names: names of the files in each folder.
        suffixes: file suffixes that labels can have.
    """
    places = defaultdict(list)
    for folder, files in names.items():
        for name in files:
            places[stem_of(name, IMAGE_SUFFIXES)].append((folder, name))
    votes = defaultdict(list)
    for folder, files in names.items():
        for name in files:
            if not name.lower().endswith(tuple(suffixes)):
                continue
            stem = stem_of(name, IMAGE_SUFFIXES) or ''
            for beginning in {stem, *(stem[:match.start()] for match in re.finditer(r'[._ -]', stem))}:
                for images, image in places.get(beginning, ()):
                    if (images, image) != (folder, name):
                        votes[images, folder, name[len(beginning):].lower()].append((image, name))
    return votes


def _count_colors(path: Path) -> int:
    """Count the colors of an image; an unreadable image counts as having all colors."""
    try:
        with Image.open(path) as image:
            image.thumbnail((512, 512), Image.Resampling.NEAREST)
            pixels = np.array(image.convert('RGB')).reshape(-1, 3).astype(np.int32)
    except UNREADABLE:
        return 256**3
    return len(np.unique(pixels @ [65536, 256, 1]))


def _group(root: Path, candidates: Iterable[Candidate]) -> dict[tuple[Path, Path, str], list[Path]]:
    """Group candidates by their common folders, with their paths relative to these; folders of splits remain separate."""
    groups = defaultdict(list)
    for candidate in candidates:
        images, labels, below = candidate.images, candidate.labels, Path()
        while images != labels and images.name == labels.name and root not in (images, labels):
            images, labels, below = images.parent, labels.parent, images.name / below
        if below.parts and (split_of(below.parts[0])):
            images, labels, below = images / below.parts[0], labels / below.parts[0], Path(*below.parts[1:])
        groups[images, labels, candidate.suffix].append(below)
    return groups


def _pair(images: Path, labels: Path, suffix: str, parts: Iterable[Path]) -> Paired:
    paired: list[tuple[str, str]] = []
    unlabeled = 0
    nested = labels != images and labels.is_relative_to(images)
    for folder, files in image_names(images).items():
        if nested and folder.is_relative_to(labels):
            continue
        below = folder.relative_to(images)
        there = _by_lower_name(labels / below)
        used = set()
        for name in files:
            label = there.get(((stem_of(name, IMAGE_SUFFIXES) or '') + suffix).lower())
            if label is not None and (images != labels or label != name):
                paired.append(((below / name).as_posix(), (below / label).as_posix()))
                used.add(label)
        unlabeled += len(files) - len(used) - (len(used & {*files}) if images == labels else 0)
    return Paired(images, labels, suffix, sorted(paired), unlabeled)


def _by_lower_name(folder: Path) -> dict[str, str]:
    return {name.lower(): name for name in os.listdir(folder)} if folder.is_dir() else {}
