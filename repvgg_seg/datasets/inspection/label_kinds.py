"""Find out what label files contain and which classes they represent."""
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...core.errors import DataError, some
from ...core.labels import IGNORE, check_class_count
from ...core.visualization import distinct_colors
from ..indices import codes_of, colors_of
from ..loading import read_labels
from ..meanings import Color, Meanings
from .class_names import NamedClass

SMALL_INDEX = 32  # Values below this are class indices; larger ones are if at least a quarter of the values up to them occur.
LOSSY_SHARE, LOSSY_DISTANCE = 0.005, 16  # In lossy masks, rarer values and values nearer to a frequent one are not classes.
IGNORED = 'ignored'  # Pixels of a class with this name are ignored.
BINARY = 128  # If the only value besides 0 is at least this, it is the foreground of a mask, as in masks of 0 and 255.
LISTED = 3


@dataclass(frozen=True)
class LabelKind:
    """Contents of label files.

    Args:
        words: description of the kind.
        classes: names of the classes.
        palette: RGB color of each class.
        counts: number of pixels of each class, followed by the number of ignored pixels, in each file, (files, classes + 1).
        values: meaning of the values, for ``label_values``; None for class indices and colors.
        colors: meaning of the colors, for ``label_colors``; None for values.
        tolerance: value for ``label_tolerance``.
        guesses: guesses about the labels, in sentences.
    """
    words: str
    classes: list[str]
    palette: list[list[int]]
    counts: np.ndarray
    values: Meanings | None = None
    colors: Meanings | None = None
    tolerance: int = 0
    guesses: list[str] = field(default_factory=list)

    def shares(self) -> np.ndarray:
        """Share of the pixels of each class, not counting ignored pixels."""
        pixels = self.counts[:, :-1].sum(0)
        return pixels / max(1, pixels.sum())


@dataclass(frozen=True)
class RawLabels:
    """The values or colors in label files.

    Args:
        colors: whether they are colors.
        palette: color of each value in the first file that has a palette.
        counts: number of pixels of each value or color, for each file.
    """
    colors: bool
    palette: list[Color] | None
    counts: list[Counter]

    def total(self) -> Counter:
        """Number of pixels of each value or color in all files."""
        return sum(self.counts, Counter())


def read_raw(paths: Sequence[Path]) -> RawLabels:
    """Count the values or colors in label files.

    Raises:
        DataError: a file cannot be read or has more than 8 bits, or some files have values and others colors.
    """
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(_count, paths))
    forms = [colors for colors, _, _ in found]
    if len(set(forms)) > 1:
        raise DataError(f'label {paths[forms.index(False)]} has values, {paths[forms.index(True)]} has colors; make all of '
                        'them of one kind')
    return RawLabels(forms[0], next((palette for _, palette, _ in found if palette), None), [counts for *_, counts in found])


def find_kind(raw: RawLabels, named: Sequence[NamedClass] = (), lossy: bool = False,
              meanings: Meanings | None = None) -> LabelKind:
    """Find out what labels mean.

    Args:
        raw: values or colors in the labels.
        named: classes named by the user, if any.
        lossy: whether the labels were saved with lossy compression, such as JPEG; rare values and colors then count as the
            nearest frequent one.
        meanings: meaning of the values, if known.

    Raises:
        DataError: the classes do not match the labels, or there are more than 255.
    """
    total = raw.total()
    if meanings:
        names = [each.name for each in named]
        indices = {value: names.index(name) for value, name in meanings.items() if name is not None}
        return LabelKind('known values', names, _palette(named, None), _table(raw.counts, indices, len(names)), values=meanings)
    colors = [each.color for each in named if each.color] if raw.colors else []
    nearest = _join(total, colors) if lossy else {value: value for value in total}
    tolerance = max((_distance(value, center) for value, center in nearest.items()), default=0)
    counts = [_merge(each, nearest) for each in raw.counts]
    found = sorted({*nearest.values()}, key=lambda value: -sum(each[value] for each in counts))
    if len(found) > IGNORE:
        raise DataError(f'the labels have {len(found)} {"colors" if raw.colors else "values"}, more than classes can be; if '
                        'they were saved with losses, as JPEG does, add --lossy')
    kind = _colors(found, counts, named) if raw.colors else _values(found, counts, named, raw.palette)
    guesses = list(kind.guesses)
    kind = _without_ignored(kind)
    if lossy and tolerance:
        moved = sum(count for value, count in total.items() if nearest[value] != value) / max(1, total.total())
        guesses.append(f'{moved:.2%} of the pixels have rare values, which count as the nearest frequent one.')
    check_class_count(len(kind.classes), 'the folder')
    if len(kind.classes) < 2:
        raise DataError(f'the labels have one class only ({some(kind.classes)}), so that there is nothing to learn; at least '
                        'two are needed')
    return replace(kind, tolerance=tolerance, guesses=guesses)


def _without_ignored(kind: LabelKind) -> LabelKind:
    """Remove the class that is named "ignored"."""
    if IGNORED not in kind.classes:
        return kind
    place = kind.classes.index(IGNORED)
    meanings: Meanings = kind.values or kind.colors or dict(enumerate(kind.classes))
    meanings = {raw: None if name == IGNORED else name for raw, name in meanings.items()}
    counts = np.delete(kind.counts, place, 1)
    counts[:, -1] += kind.counts[:, place]
    return replace(kind, classes=[name for name in kind.classes if name != IGNORED], counts=counts,
                   palette=[color for index, color in enumerate(kind.palette) if index != place],
                   values=None if kind.colors else meanings, colors=meanings if kind.colors else None)


def _values(found: list[int], counts: list[Counter], named: Sequence[NamedClass], palette: list[Color] | None) -> LabelKind:
    values = sorted(set(found) - {IGNORE})
    guesses: list[str] = []
    if not palette and len(found) == 2 and min(found) == 0 and max(found) >= BINARY:
        words, meant = f'masks of 0 and {max(found)}', [0, max(found)]
        names = ['background', 'foreground']
    elif not values:
        raise DataError('all pixels of the labels are 255, which means ignored; expected class indices')
    elif named and len(named) > values[-1] or not named and _are_indices(values, palette):
        classes = named or [NamedClass(f'class {value}', None) for value in range(values[-1] + 1)]
        if not named and values[0] == 1:
            words, meant = 'class indices counted from 1', values
            names = [f'class {value}' for value in meant]
            guesses.append('No pixel is 0, so that classes are counted from 1.')
        else:
            colors = _palette(classes, palette)
            if not named:
                guesses.append('The classes have no names; give a file with one name on each line with --classes, or rename '
                               'them here.')
            return LabelKind('class indices' + (' with a palette' if palette else ''), [each.name for each in classes], colors,
                             _table(counts, {index: index for index in range(len(classes))}, len(classes)), guesses=guesses)
    else:
        words, meant = 'gray values', sorted(found)
        names = [f'gray {value}' for value in meant]
    if named:
        if len(named) != len(meant):
            raise DataError(f'the labels have {len(meant)} values ({some(meant)}), but {len(named)} classes are named '
                            f'({some(each.name for each in named)}); name as many, in the order of the values')
        names = [each.name for each in named]
        guesses.append('The names are in the order of the values.')
    else:
        guesses.append('The labels do not name the classes; rename them here.')
    return LabelKind(words, names, _palette(named or [NamedClass(name, None) for name in names], None),
                     _table(counts, {value: index for index, value in enumerate(meant)}, len(meant)),
                     values=dict(zip(meant, names)), guesses=guesses)


def _are_indices(values: Sequence[int], palette: list[Color] | None) -> bool:
    return bool(palette) or values[-1] < SMALL_INDEX or 4 * len(values) > values[-1]


def _colors(found: list[Color], counts: list[Counter], named: Sequence[NamedClass]) -> LabelKind:
    guesses: list[str] = []
    if named and not all(each.color for each in named):
        raise DataError(f'the labels have colors, but the classes are named without; write "NAME RED GREEN BLUE" on each line. '
                        f'The colors are {some(found)}, the most frequent first')
    if named:
        names = {each.color: each.name for each in named if each.color}
        total = sum(counts, Counter())
        if unknown := [color for color in found if color not in names]:
            listed = [f'{color} in {100 * total[color] / total.total():.3g}% of the pixels, nearest to '
                      f'{min(names, key=lambda known: _distance(known, color))}' for color in unknown[:LISTED]]
            raise DataError(f'{len(unknown)} colors of the labels are not among the named ones: {"; ".join(listed)}; add them, '
                            'or if the labels were saved with losses, as JPEG does, add --lossy')
    else:
        names = {color: '#{:02x}{:02x}{:02x}'.format(*color) for color in found}
        guesses.append('The names of the classes are their colors; rename them here, or write None in label_colors for a color '
                       'to ignore.')
    indices = {color: index for index, color in enumerate(names)}
    return LabelKind('one color a '
                     'class', [*names.values()], [list(color) for color in names], _table(counts, indices, len(names)),
                     colors=names, guesses=guesses)


def _palette(classes: Sequence[NamedClass], palette: list[Color] | None) -> list[list[int]]:
    made = distinct_colors([each.name for each in classes])
    return [list(each.color or (palette[index] if palette and index < len(palette) else made[index]))
            for index, each in enumerate(classes)]


def _table(counts: list[Counter], indices: dict[Any, int], classes: int) -> np.ndarray:
    """Number of pixels of each class, followed by the number of ignored pixels, in each file."""
    table = np.zeros((len(counts), classes + 1), np.int64)
    for row, each in zip(table, counts):
        for value, pixels in each.items():
            row[indices.get(value, classes)] += pixels
    return table


def _count(path: Path) -> tuple[bool, list[Color] | None, Counter]:
    """Whether a file has colors, its palette, and the number of pixels of each value or color."""
    labels, palette = read_labels(str(path)), None
    if labels.ndim == 2 and labels.dtype != np.uint8:
        if labels.min() < 0 or labels.max() > IGNORE:
            raise DataError(f'label {path} has {8 * labels.itemsize} bits per pixel and values up to {labels.max()}; expected '
                            '0 to 255: convert it')
        raise DataError(f'label {path} has {8 * labels.itemsize} bits per pixel; expected 8: convert it')
    if labels.ndim == 2:
        with Image.open(path) as image:
            if image.mode == 'P' and image.palette is not None:
                flat = image.getpalette('RGB') or []
                palette = [(flat[place], flat[place + 1], flat[place + 2]) for place in range(0, len(flat) - 2, 3)]
        pixels = np.bincount(labels.ravel(), minlength=IGNORE + 1)
        return False, palette, Counter({int(value): int(pixels[value]) for value in np.flatnonzero(pixels)})
    codes = codes_of(read_labels(str(path), colors=True)).ravel()
    starts = np.flatnonzero(np.diff(codes, prepend=-1))  # Starts of runs. Labels have few of them, so sorting is fast.
    values, places = np.unique(codes[starts], return_inverse=True)
    pixels = np.bincount(places, np.diff(starts, append=len(codes)))
    return True, None, Counter({tuple(color): int(count) for color, count in zip(colors_of(values).tolist(), pixels)})


def _join(total: Counter, known: Sequence[Any]) -> dict[Any, Any]:
    """Map each value or color to the nearest known one, or to the nearest frequent one if none is known."""
    frequent = [value for value, count in total.items() if count >= LOSSY_SHARE * total.total()]
    centers = [*known]
    for value in () if known else sorted(frequent, key=lambda value: -total[value]):
        if all(_distance(value, center) > LOSSY_DISTANCE for center in centers):
            centers.append(value)
    raw = [*total]
    distances = abs(np.array(raw, np.int32).reshape(len(raw), 1, -1) - np.array(centers).reshape(len(centers), -1)).max(2)
    return {value: centers[place] for value, place in zip(raw, distances.argmin(1).tolist())}


def _distance(one: Any, other: Any) -> int:
    return int(np.max(np.abs(np.subtract(one, other))))


def _merge(counts: Counter, nearest: dict[Any, Any]) -> Counter:
    merged: Counter = Counter()
    for value, pixels in counts.items():
        merged[nearest[value]] += pixels
    return merged
