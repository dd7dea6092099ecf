"""Counting what a report needs while a test runs, image by image, so that no more than one image is held."""
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
    """Counts of every image of the test set; not a metric, but the place where MMEngine hands predictions out.

    Args:
        folder: folder of a report, into which the pictures are written, and for which boundaries and confidences are counted
            as well; None to count confusion matrices only.
        load: step of a pipeline that reads an image, for the pictures.
        probabilities: whether the ``seg_logits`` of a sample are those of its prediction.

    Attributes:
        images: after the test, on the main process, the counts of every image in the order of the dataset: ``path``,
            ``confusion`` and, for a report, ``boundary`` and ``calibration`` (None without probabilities).
    """

    def __init__(self, folder: str | None = None, load: dict | None = None, probabilities: bool = True) -> None:
        super().__init__()
        self.probabilities = probabilities
        self.folder = Path(folder) if folder else None
        self.load = TRANSFORMS.build(load) if load else None
        self.images: list[dict] = []

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count some samples with ``pred_sem_seg`` and ``gt_sem_seg``.

        Raises:
            UserError: they have no labels.
            DataError: a label has a value that is no class.
        """
        for sample in data_samples:
            if 'gt_sem_seg' not in sample:
                raise UserError('--report compares predictions with labels, but the test set has none; leave --report out')
            self.results.append(self._count(sample))

    def _count(self, sample: dict) -> dict:
        classes, path = len(self.dataset_meta['classes']), sample['img_path']
        label, predicted = (_map(sample[key]['data']) for key in ('gt_sem_seg', 'pred_sem_seg'))
        if unknown := sorted({*np.unique(label).tolist()} - {*range(classes), IGNORE}):
            raise DataError(f'the label of {path} has the value {unknown[0]}; expected 0 to {classes - 1}, or '
                            f'{IGNORE} where a pixel does not count', 'unknown values')
        label, predicted = label.astype(np.uint8), predicted.astype(np.uint8)
        counts = dict(path=path, confusion=confusion_of(label, predicted, classes))
        if self.folder is None or self.load is None:
            return counts
        # As MMEngine divides the images between processes, and puts the results together again.
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
        """Keep the counts. There is nothing to compute."""
        self.images = results
        return {}


def _map(data: Tensor) -> np.ndarray:
    """A label map (H, W) out of (1, H, W)."""
    return data.reshape(data.shape[-2:]).cpu().numpy().astype(np.int64)
