"""Comparing two reports on the same images, so that chance is not taken for progress."""
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...core.command_names import command
from ...core.errors import UserError, some
from . import counts
from .bootstrap import resample
from .summary import VERSION, image_areas, percent, percent_interval


class Earlier(NamedTuple):
    """An earlier report, with which a new one is compared.

    Args:
        path: path of its ``report.json``.
        checkpoint: checkpoint that was tested.
        metrics: metrics in percent, by name.
        classes: names of the classes.
        images: names of the images.
        confusions: confusion counts of each image, int64 (n, 3) as returned by
            :func:`~repvgg_seg.engine.report.counts.confusion_of`.
    """
    path: Path
    checkpoint: str
    metrics: dict[str, float | None]
    classes: list[str]
    images: list[str]
    confusions: list[np.ndarray]


def read_earlier(path: Path) -> Earlier:
    """Read a ``report.json`` and check its contents.

    Raises:
        UserError: the file does not exist, or was not written by ``repvgg-seg test --report``.
    """
    expected = f'expected the report.json that {command("test")} --report writes'
    try:
        report = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f'--against {path} cannot be read ({getattr(error, "strerror", None) or error}); {expected}') from None
    if not isinstance(report, dict) or report.get('version') != VERSION:
        raise UserError(f'--against {path} is not a report of version {VERSION}; {expected}')
    try:
        classes = [str(entry['name']) for entry in report['classes']]
        confusions = [_confusion(image['confusion'], len(classes)) for image in report['images']]
        metrics = {str(name): None if value is None else float(value) for name, value in report['metrics'].items()}
        return Earlier(path, str(report['checkpoint']), metrics, classes, [str(image['name']) for image in report['images']],
                       confusions)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise UserError(f'--against {path} is invalid; {expected}') from None


def check_comparable(earlier: Earlier, classes: Sequence[str], images: Sequence[str]) -> None:
    """Check that a report has the classes and images of a test set.

    Raises:
        UserError: they differ.
    """
    if earlier.classes != list(classes):
        raise UserError(f'--against {earlier.path} has the classes {some(earlier.classes)}, the test set has {some(classes)}; '
                        'compare reports on the same classes')
    if sorted(earlier.images) != sorted(images):
        ours, theirs = set(images) - set(earlier.images), set(earlier.images) - set(images)
        raise UserError(f'--against {earlier.path} has {len(earlier.images)} images, the test set has {len(images)}: '
                        f'{some(sorted(theirs)) or "none"} only in the first, {some(sorted(ours)) or "none"} only in the '
                        'second; compare reports on the same images')


def compare(report: dict, earlier: Earlier) -> dict:
    """Compare a report with an earlier one.

    Args:
        report: from :func:`~repvgg_seg.engine.report.summary.summarize`.
        earlier: earlier report that passed :func:`check_comparable`.

    Returns:
        Changes of ``metrics``, ``classes`` and ``images`` in percentage points, in the order of the report. The mIoU and each
        class also have the limits of an ``interval`` (None if unavailable) and a ``verdict``; each image has its ``number`` in
        the earlier report.

    Raises:
        UserError: the labels of an image differ.
    """
    classes, names = len(earlier.classes), [image['name'] for image in report['images']]
    pairs = dict(zip(np.argsort(names, kind='stable').tolist(), np.argsort(earlier.images, kind='stable').tolist()))
    numbers = [pairs[index] for index in range(len(names))]
    after = image_areas([np.array(image['confusion'], np.int64).reshape(-1, 3) for image in report['images']], classes)
    before = image_areas([earlier.confusions[number] for number in numbers], classes)
    for name, *labels in zip(names, after[:, 1], before[:, 1]):
        if (labels[0] != labels[1]).any():
            raise UserError(f'the label of {name} differs from that in --against {earlier.path}; compare reports on the same '
                            'labels')
    resampled = [counts.iou(resample(areas)) for areas in (after, before)]
    whole = [counts.iou(areas.sum(axis=0)) for areas in (after, before)]
    means = [np.array([counts.mean(values) for values in each]) for each in resampled]
    of_classes = [_change(percent(new), percent(old), new_values - old_values)
                  for new, old, new_values, old_values in zip(*whole, resampled[0].T, resampled[1].T)]
    metrics = {name: _change(value, earlier.metrics.get(name)) for name, value in report['metrics'].items()}
    metrics['mIoU'] = _change(percent(counts.mean(whole[0])), percent(counts.mean(whole[1])), means[0] - means[1])
    return dict(report=str(earlier.path), checkpoint=earlier.checkpoint, metrics=metrics, classes=of_classes,
                images=[dict(_change(percent(counts.image_iou(new)), percent(counts.image_iou(old))), number=number)
                        for new, old, number in zip(after, before, numbers)])


def _change(after: float | None, before: float | None, resampled: np.ndarray | None = None) -> dict[str, Any]:
    change = after - before if after is not None and before is not None else None
    if resampled is None:
        return dict(before=before, change=change)
    limits = percent_interval(resampled) if change is not None else None
    return dict(before=before, change=change, interval=limits, verdict=_verdict(limits))


def _verdict(limits: list[float] | None) -> str:
    """Whether an interval of changes contains only positive values, only negative values, or both."""
    if limits is None or limits[0] <= 0 <= limits[1]:
        return 'undecided'
    return 'better' if limits[0] > 0 else 'worse'


def _confusion(rows: object, classes: int) -> np.ndarray:
    confusion = np.array(rows, dtype=np.int64).reshape(-1, 3)
    if (confusion < 0).any() or (confusion[:, :2] >= classes).any():
        raise ValueError
    return confusion
