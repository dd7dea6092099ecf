"""Collect the counts for a report during a test, image by image, so that only one image is in memory at a time."""
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.dist import get_rank, get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.registry import TRANSFORMS
from torch import Tensor

from ...core.errors import DataError, UserError
from ...core.labels import IGNORE
from ...core.visualization import viewable
from ...registry import METRICS
from .boundaries import boundary_areas
from .calibration import calibration_counts, confidence_of
from .counts import confusion_of
from .pictures import write_pictures


@METRICS.register_module()
class ImageCounts(BaseMetric):
    """Counts the pixels of every test image. It is a metric only because MMEngine passes predictions to metrics.

    Args:
        folder: report folder for the pictures. If given, boundaries and confidences are counted as well; None counts only
            confusion matrices.
        load: pipeline step that reads an image, used for the pictures.
        probabilities: whether the ``seg_logits`` of a sample belong to its prediction.

    Attributes:
        images: counts of every image in dataset order, available on the main process after the test: ``path``,
            ``confusion`` and, for a report, ``boundary`` and ``calibration`` (None without probabilities).
    """

    def __init__(self, folder: str | None = None, load: dict | None = None, probabilities: bool = True) -> None:
        super().__init__()
        self.probabilities = probabilities
        self.folder = Path(folder) if folder else None
        self.load = TRANSFORMS.build(load) if load else None
        self.images: list[dict] = []

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the pixels of samples that have ``pred_sem_seg`` and ``gt_sem_seg``.

        Raises:
            UserError: a sample has no label.
            DataError: a label has a value that is not a class index.
        """
        for sample in data_samples:
            if 'gt_sem_seg' not in sample:
                raise UserError('--report compares predictions with labels, but the test set has none; leave --report out')
            self.results.append(self._count(sample))

    def _count(self, sample: dict) -> dict:
        classes, path = len(self.dataset_meta['classes']), sample['img_path']
        label, predicted = _map(sample['gt_sem_seg']['data']), _map(sample['pred_sem_seg']['data'])
        if unknown := sorted({*np.unique(label).tolist()} - {*range(classes), IGNORE}):
            raise DataError(f'the label of {path} has the value {unknown[0]}; expected 0 to {classes - 1}, or '
                            f'{IGNORE} where a pixel does not count', 'unknown values')
        label, predicted = label.astype(np.uint8), predicted.astype(np.uint8)
        counts = dict(path=path, confusion=confusion_of(label, predicted, classes))
        if self.folder is None or self.load is None:
            return counts
        # MMEngine distributes the images to the processes, and merges the results, in this order.
        number = len(self.results) * get_world_size() + get_rank()
        image = viewable(self.load(dict(img_path=path))['img'])
        write_pictures(self.folder, number, image, label, predicted, self.dataset_meta['palette'])
        counted, calibration = label != IGNORE, None
        if self.probabilities and 'seg_logits' in sample:
            prediction = sample['pred_sem_seg']['data']
            confidence = confidence_of(sample['seg_logits']['data'], prediction.reshape(prediction.shape[-2:]))
            calibration = calibration_counts(confidence.cpu().numpy()[counted], (label == predicted)[counted])
        return dict(counts, boundary=boundary_areas(label, predicted, classes), calibration=calibration)

    def compute_metrics(self, results: list) -> dict:
        """Store the counts; no metric is computed."""
        self.images = results
        return {}


def _map(data: Tensor) -> np.ndarray:
    """Convert a label map from (1, H, W) to (H, W)."""
    return data.reshape(data.shape[-2:]).cpu().numpy().astype(np.int64)
