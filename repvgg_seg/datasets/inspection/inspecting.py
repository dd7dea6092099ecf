"""Inspect a folder of images and labels: which files belong together, how they are split, and what the labels mean."""
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmseg.datasets import ADE20KDataset, PascalVOCDataset

from ...core.command_names import command
from ...core.errors import DataError, UserError, some
from ...core.images import IMAGE_SUFFIXES
from ...core.labels import IGNORE
from ..annotations import make_labels
from ..annotations.making import CLASSES_FILE, common_classes, find_annotations
from ..cityscapes import CityscapesDataset
from ..files import stem_of
from .class_names import NamedClass, find_classes_file, read_classes
from .folders import Paired, find_paired, image_names, split_of
from .label_kinds import LabelKind, find_kind, read_raw
from .splitting import SHARE, split

MIN_IMAGES = 3  # Labeled images: two for training, because batch norm needs several values, and one for validation.
SEED_WITHOUT_EFFECT = '--seed is for choosing validation images, but {} is divided already; leave it out'
LOOKED_AT = 1000  # Maximum number of label files that are read, evenly distributed.


class Pair(NamedTuple):
    """An image and its label file."""
    image: Path
    label: Path


@dataclass(frozen=True)
class Split:
    """A split of the data.

    Args:
        images: image folder.
        labels: label folder.
        pairs: images and labels of the split.
        listed: whether the split needs a list of its images, because the folder contains others too.
    """
    images: Path
    labels: Path
    pairs: list[Pair]
    listed: bool

    def names(self) -> list[str]:
        """Paths of the images relative to the image folder, for a list."""
        return [pair.image.relative_to(self.images).as_posix() for pair in self.pairs]


@dataclass(frozen=True)
class Found:
    """Result of an inspection.

    Args:
        layout: description of where images and labels are.
        type: name of the dataset class.
        suffix: end of the names of label files.
        kind: contents of the labels; its ``counts`` are those of ``counted``.
        counted: pairs whose labels were read.
        splits: 'train', 'val' and possibly 'test'.
        how_split: description of how the data are split.
        guesses: guesses about the files, in sentences.
    """
    layout: str
    type: str
    suffix: str
    kind: LabelKind
    counted: list[Pair]
    splits: dict[str, Split]
    how_split: str
    guesses: list[str] = field(default_factory=list)


def inspect(root: Path, workspace: Path, classes_file: Path | None = None, lossy: bool = False,
            seed: int | None = None) -> Found:
    """Inspect a folder.

    Args:
        root: folder to inspect; it is not changed.
        workspace: folder for label files that are made from polygons.
        classes_file: file with the names of the classes, see
            :func:`~repvgg_seg.datasets.inspection.class_names.read_classes`; by default a file with a common name.
        lossy: whether labels were saved with lossy compression.
        seed: random seed of the split; None for 0.

    Raises:
        UserError: the folder does not exist, or it is divided already, but there is a seed.
        DataError: no images with labels are found, or they are inconsistent.
    """
    if not root.is_dir():
        raise UserError(f'{root} is not a folder; expected one with images and labels')
    if (root / 'leftImg8bit').is_dir() and (root / 'gtFine').is_dir():
        if seed is not None:
            raise UserError(SEED_WITHOUT_EFFECT.format(root))
        return _cityscapes(root)
    classes_file = classes_file or find_classes_file(root)
    named = read_classes(classes_file) if classes_file else []
    guesses = [f'The names of the classes are those in {classes_file}.'] if classes_file else []
    paired, layout = find_paired(root, lossy), ''
    if not paired:
        paired, named, layout = _from_annotations(root, workspace, classes_file)
    if not paired:
        raise DataError(f'{root} has no images with labels; expected label files (PNG, TIFF or BMP) of the same names as the '
                        'images in '
                        "another folder or beside them, LabelMe's JSON files, or one in COCO's format. JPEG masks need --lossy")
    base = paired.get('train') or paired.get('all') or next(iter(paired.values()))
    annotated, layout = bool(layout), layout or _layout(root, base)
    splits, how_split, left_out = _given_splits(root, paired, base, 'by annotation files' if annotated else 'by folders')
    everything = [pair for part in splits.values() for pair in part.pairs]
    counted, sampled = _sample(everything)
    raw = read_raw([pair.label for pair in counted])
    names, meanings = (named, None) if named else known_classes(root, base, {*raw.total()} if not raw.colors else set())
    kind = find_kind(raw, names, lossy, meanings)
    if 'val' in splits:
        if seed is not None:
            raise UserError(SEED_WITHOUT_EFFECT.format(root))
    else:
        seed = seed or 0
        splits = _own_split(splits, counted, kind, seed)
        how_split += f'{", " if how_split else ""}{SHARE:.0%} of the training images at random for validation (seed {seed})'
        guesses.append(f'Validation: {SHARE:.0%} of the training images, chosen at random with seed {seed} so that the classes '
                       'are as frequent. Frames of one video should be in one part only: edit the lists if they are.')
    unlabeled = {each.images: each.unlabeled for each in paired.values() if each.unlabeled}
    guesses += [f'{count} images in {folder} have no label and are left out.' for folder, count in unlabeled.items()]
    guesses += [*left_out, *sampled]
    return Found(layout, 'repvgg_seg.PairedSegDataset', base.suffix, kind, counted, splits, how_split, guesses)


def known_classes(root: Path, base: Paired, values: set[int]) -> tuple[list[NamedClass], Mapping[int, str | None] | None]:
    """Recognize Pascal VOC and ADE20K: their classes, and the meaning of their label values if these are not class indices.

    Args:
        root: folder that is inspected.
        base: folders of images and labels.
        values: values that occur in the labels.
    """
    parts = (root.name, *base.images.relative_to(root).parts, *base.labels.relative_to(root).parts)
    names = {part.lower() for part in parts}

    def of(metainfo: Mapping) -> list[NamedClass]:
        return [NamedClass(name, tuple(color)) for name, color in zip(metainfo['classes'], metainfo['palette'])]

    if {'jpegimages', 'segmentationclass'} <= names and values and max(values - {IGNORE}, default=0) <= 20:
        return of(PascalVOCDataset.METAINFO), None
    if names & {'ade', 'adechallengedata2016', 'ade20k'} and max(values, default=0) in range(1, 151):
        classes = of(ADE20KDataset.METAINFO)
        return classes, {0: None, **{index: each.name for index, each in enumerate(classes, 1)}}
    return [], None


def find_lists(root: Path, base: Paired) -> dict[str, list[tuple[str, str]]]:
    """Read the pairs of each split from lists below the folder, such as ``train.txt``.

    Args:
        root: folder that is inspected.
        base: folders of images and labels.
    """
    beginning = f'{base.images.relative_to(root).as_posix()}/' if base.images != root else ''
    by_name = {f'{before}{name}': pair for pair in base.pairs for name in (pair[0], stem_of(pair[0], IMAGE_SUFFIXES))
               for before in {'', beginning}}
    found = {}
    for path in sorted(root.rglob('*.txt'), key=lambda path: (len(path.parts), str(path))):
        name = split_of(path.stem)
        if name is None or name in found:
            continue
        lines = [line.strip() for line in path.read_text(encoding='utf-8', errors='replace').splitlines() if line.strip()]
        if lines and all(line in by_name for line in lines):
            found[name] = sorted({by_name[line] for line in lines})
    return found


def _given_splits(root: Path, paired: Mapping[str, Paired], base: Paired,
                  how: str) -> tuple[dict[str, Split], str, list[str]]:
    """Splits that are given by folders or lists, a description of how they are given, and sentences about omitted images."""
    if 'train' in paired and ('val' in paired or 'test' in paired):
        return {name: _part(each) for name, each in paired.items()}, how, []
    lists = find_lists(root, base)
    if 'train' in lists:
        parts = {name: _part(base, pairs) for name, pairs in lists.items()}
        listed = sum(map(len, lists.values()))
        left = [f'{len(base.pairs) - listed} images are in no list and are left out.'] if listed < len(base.pairs) else []
        return parts, 'by the lists in the folder', left
    return {'train': _part(base)}, '', []


def _sample(pairs: list[Pair]) -> tuple[list[Pair], list[str]]:
    """Pairs whose labels are read, and a sentence about it if these are not all."""
    sample = pairs[::-(-len(pairs) // LOOKED_AT)]
    if len(sample) == len(pairs):
        return sample, []
    return sample, [f'Classes and their shares are those in {len(sample)} of the {len(pairs)} label files, spread evenly.']


def _part(paired: Paired, pairs: Sequence[tuple[str, str]] | None = None) -> Split:
    return Split(paired.images, paired.labels, [Pair(paired.images / image, paired.labels / label)
                                                for image, label in (paired.pairs if pairs is None else pairs)],
                 pairs is not None or paired.unlabeled > 0 or paired.shared)


def _own_split(splits: Mapping[str, Split], counted: Sequence[Pair], kind: LabelKind, seed: int) -> dict[str, Split]:
    train = splits['train']
    if len(train.pairs) < MIN_IMAGES:
        raise DataError(f'{train.images} has {len(train.pairs)} image(s) with a label; at least {MIN_IMAGES} are '
                        'needed, one of them for validation')
    rows = dict(zip(counted, kind.counts))
    unknown = np.zeros(kind.counts.shape[1], np.int64)
    validation = split(np.stack([rows.get(pair, unknown) for pair in train.pairs])[:, :-1], seed)
    parts = {name: [pair for pair, chosen in zip(train.pairs, validation) if chosen == (name == 'val')]
             for name in ('train', 'val')}
    return {**splits, **{name: Split(train.images, train.labels, pairs, True) for name, pairs in parts.items()}}


def _layout(root: Path, base: Paired) -> str:
    def name(folder: Path) -> str:
        return f'{folder.relative_to(root)}/' if folder != root else 'the folder'
    if base.images == base.labels:
        return f'labels NAME{base.suffix} beside the images'
    return f'images in {name(base.images)}, labels NAME{base.suffix} in {name(base.labels)}'


def _from_annotations(root: Path, workspace: Path,
                      classes_file: Path | None) -> tuple[dict[str, Paired], list[NamedClass], str]:
    """Make label files from JSON files, and return the folders, the classes and a description of the layout."""
    sources, below = _sources(root), _names_below(root)  # Before there are label files, which can be below it.
    if not sources:
        return {}, [], ''
    if len(sources) > 1 and classes_file is None:  # All splits need the same classes, whatever the order in their files.
        classes_file = workspace / CLASSES_FILE
        classes_file.write_text(''.join(f'{name}\n' for name in common_classes([*sources.values()])), encoding='utf-8')
    paired = {}
    for split_name, source in sources.items():
        labels = workspace / 'labels' / (split_name if len(sources) > 1 else '')
        made = make_labels(source, labels, str(classes_file) if classes_file else None)
        paired[split_name] = _images_of(root, below, labels, source, split_name)
    used = {part.images / image for part in paired.values() for image, _ in part.pairs}
    for split_name, part in paired.items():
        images = {part.images / name for name in below[part.images].values()}
        paired[split_name] = replace(part, unlabeled=len(images - used), shared=len(images) > len(part.pairs))
    words = "COCO's format" if all(source.is_file() for source in sources.values()) else "LabelMe's format"
    return paired, [NamedClass(name, None) for name in made.classes], f'polygons in {words}'


def _sources(root: Path) -> dict[str, Path]:
    """Annotations of each split: several files in COCO's format, named or in folders named after the splits; else of 'all'.

    Raises:
        DataError: there are several files in COCO's format, but they are not one for each split.
    """
    sources = find_annotations(root)
    if len(sources) < 2:
        return dict(zip(['all'], sources))
    named = {}
    for source in sources:
        parts = source.relative_to(root).with_suffix('').parts
        named[next((name for part in reversed(parts) if (name := split_of(part))), '')] = source
    if len(named) < len(sources) or '' in named or 'train' not in named:
        raise DataError(f"{root} has {len(sources)} files in COCO's format: {some(sources)}; name them, or their folders, "
                        'train, val and test, merge them into one, or make label files from each with '
                        f'{command("make-labels")}')
    return {name: named[name] for name in ('train', 'val', 'test') if name in named}


def _names_below(root: Path) -> dict[Path, dict[str, str]]:
    """Names of the images below each folder, relative to it, by the same name without its suffix."""
    below: dict[Path, dict[str, str]] = defaultdict(dict)
    for place, names in image_names(root).items():
        for folder in (place, *place.parents):
            if folder.is_relative_to(root):
                relative = [(place / name).relative_to(folder).as_posix() for name in names]
                below[folder].update({stem_of(name, IMAGE_SUFFIXES) or '': name for name in relative})
    return below


def _images_of(root: Path, below: Mapping[Path, Mapping[str, str]], labels: Path, source: Path, split_name: str) -> Paired:
    """Find the folder of the images for label files that were made from annotations.

    Args:
        root: folder that is inspected.
        below: see :func:`_names_below`.
        labels: folder of the label files.
        source: annotations that they were made from.
        split_name: name of the split.

    Raises:
        DataError: an image is missing.
    """
    wanted = {path.relative_to(labels).with_suffix('').as_posix(): path.relative_to(labels).as_posix()
              for path in labels.rglob('*.png')}
    candidates = {folder: [(names[name], label) for name, label in wanted.items() if name in names]
                  for folder, names in below.items()}

    def likeliness(folder: Path) -> tuple:
        named = split_name in map(split_of, folder.relative_to(root).parts)
        return len(candidates[folder]), named, -len(folder.parts), str(folder)

    best = max(candidates, key=likeliness, default=root)
    pairs = candidates.get(best, [])
    if len(pairs) < len(wanted):
        absent = sorted(set(wanted) - {stem_of(image, IMAGE_SUFFIXES) for image, _ in pairs})
        raise DataError(f'{len(absent)} of the {len(wanted)} images in {source} are not below {root}: {some(absent)}; add '
                        'them, or remove them from the annotations')
    return Paired(best, labels, '.png', sorted(pairs))


def _cityscapes(root: Path) -> Found:
    """Inspect Cityscapes in the layout of its archives."""
    splits = {}
    for name in ('train', 'val', 'test'):
        images, labels = root / 'leftImg8bit' / name, root / 'gtFine' / name
        if images.is_dir() and name != 'test':  # The labels of the test set are not public.
            dataset = CityscapesDataset(data_root=str(root), data_prefix=dict(
                img_path=str(images.relative_to(root)), seg_map_path=str(labels.relative_to(root))))
            infos = [dataset.get_data_info(index) for index in range(len(dataset))]
            pairs = [Pair(Path(info['img_path']), Path(info['seg_map_path'])) for info in infos]
            splits[name] = Split(images, labels, pairs, False)
    if absent := [name for name in ('train', 'val') if name not in splits]:
        raise DataError(f'{root} looks like Cityscapes, but leftImg8bit has no folder {some(absent)}; expected '
                        f'{CityscapesDataset.LAYOUT}')
    everything = [pair for part in splits.values() for pair in part.pairs]
    counted, sampled = _sample(everything)
    classes = list(dataset.metainfo['classes'])
    table = np.zeros((len(counted), len(classes) + 1), np.int64)
    for row, pair, counts in zip(table, counted, read_raw([pair.label for pair in counted]).counts):
        meaning = dataset.raw_label_map(str(pair.label))
        for value, pixels in counts.items():
            row[min(meaning.get(value, IGNORE), len(classes))] += pixels
    kind = LabelKind("Cityscapes' label ids", classes, [list(color) for color in dataset.metainfo['palette']], table)
    return Found('Cityscapes as unzipped', 'repvgg_seg.CityscapesDataset', '', kind, counted, splits, 'by folders',
                 sampled)
