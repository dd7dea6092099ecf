"""Compute the numbers of a report from the counts of every image."""
import math
from collections.abc import Sequence

import numpy as np

from . import counts
from .bootstrap import CONFIDENCE, RESAMPLES, interval, resample
from .boundaries import DILATION_RATIO
from .calibration import calibration_of

VERSION = 1  # Version of the format of report.json.
SHOWN, SEED = 12, 0  # Number of worst and of random images at the top of the page; random seed of the latter.


def class_values(images: Sequence[dict], names: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """IoU and accuracy of each class in percent, rounded as in MMSegmentation's metric; None without pixels.

    Args:
        images: counts of every image, see :class:`~repvgg_seg.engine.report.collecting.ImageCounts`.
        names: names of the classes.
    """
    areas = counts.areas_of(counts.matrix_of((image['confusion'] for image in images), len(names)))
    values = zip(names, percents(counts.iou(areas)), percents(counts.accuracy(areas)))
    return {name: {key: value if value is None else round(value, 2) for key, value in (('IoU', iou), ('Acc', accuracy))}
            for name, iou, accuracy in values}


def summarize(images: Sequence[dict], image_names: Sequence[str], names: Sequence[str],
              palette: Sequence[Sequence[int]]) -> dict:
    """Compute all numbers of a report.

    Args:
        images: counts of every image, see :class:`~repvgg_seg.engine.report.collecting.ImageCounts`.
        image_names: names of the same images.
        names, palette: name and RGB color of each class.

    Returns:
        Contents of ``report.json``: percentages, numbers of pixels, and None for values that cannot be computed.
    """
    matrix = counts.matrix_of((image['confusion'] for image in images), len(names))
    areas = counts.areas_of(matrix)
    areas_of_images = image_areas([image['confusion'] for image in images], len(names))
    boundary_iou = counts.iou(sum(image['boundary'] for image in images))
    resampled = counts.iou(resample(areas_of_images))
    ious = [counts.image_iou(each) for each in areas_of_images]
    order = [int(index) for index in np.argsort(ious, kind='stable') if not math.isnan(ious[index])]
    random = np.random.default_rng(SEED).permutation(len(images))[:SHOWN]
    calibrations = [image['calibration'] for image in images]
    columns = dict(
        IoU=percents(counts.iou(areas)), interval=[percent_interval(values) for values in resampled.T],
        accuracy=percents(counts.accuracy(areas)), precision=percents(counts.precision(areas)),
        boundary_IoU=percents(boundary_iou), frequency=percents(areas[1] / max(areas[1].sum(), 1)), pixels=areas[1].tolist(),
        images=(areas_of_images[:, 1] > 0).sum(axis=0).tolist())
    return dict(
        version=VERSION,
        metrics=dict(mIoU=percent(counts.mean(counts.iou(areas))), mAcc=percent(counts.mean(counts.accuracy(areas))),
                     aAcc=percent(counts.pixel_accuracy(areas)), boundary_mIoU=percent(counts.mean(boundary_iou))),
        mIoU_interval=percent_interval(np.array([counts.mean(values) for values in resampled])),
        bootstrap=dict(resamples=RESAMPLES, confidence=100 * CONFIDENCE), boundary=dict(dilation_ratio=DILATION_RATIO),
        classes=[dict(name=name, color=list(map(int, color)), **{key: values[index] for key, values in columns.items()})
                 for index, (name, color) in enumerate(zip(names, palette))],
        confusion=matrix.tolist(),
        calibration=None if any(each is None for each in calibrations) else calibration_of(sum(calibrations)),
        worst=order[:SHOWN], random=random.tolist(),
        images=[dict(name=name, IoU=percent(iou), accuracy=percent(counts.pixel_accuracy(each)),
                     confusion=image['confusion'].tolist())
                for image, name, iou, each in zip(images, image_names, ious, areas_of_images)])


def image_areas(confusions: Sequence[np.ndarray], classes: int) -> np.ndarray:
    """Areas of each image, int64 (images, 3, classes), from the counts that :func:`~counts.confusion_of` returns."""
    return np.stack([counts.areas_of(counts.matrix_of([confusion], classes)) for confusion in confusions])


def percent(value: float) -> float | None:
    """Convert a share to percent; NaN becomes None."""
    return None if math.isnan(value) else 100 * float(value)


def percents(values: np.ndarray) -> list[float | None]:
    """Apply :func:`percent` to each value."""
    return [percent(value) for value in values]


def percent_interval(values: np.ndarray) -> list[float] | None:
    """Limits of :func:`~repvgg_seg.engine.report.bootstrap.interval` for shares, in percent."""
    limits = interval(values)
    return limits and [100 * limit for limit in limits]
