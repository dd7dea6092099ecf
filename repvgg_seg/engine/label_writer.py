"""Write predictions as label files during a test."""
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.evaluator import BaseMetric

from ..core.errors import UserError
from ..core.visualization import save_labels
from ..registry import METRICS


def name_of_labels(image: str) -> str:
    """Name of the label file for the prediction of an image file."""
    return f'{Path(image).stem}.png'


@METRICS.register_module()
class LabelWriter(BaseMetric):
    """Writes each prediction as ``IMAGE-NAME.png``. It is a metric only because MMEngine passes predictions to metrics.

    Args:
        output_dir: folder for the files; it is created if it does not exist.
        label_ids: whether to write the dataset's original label ids, which the Cityscapes server expects, instead of class
            indices with a palette.
    """

    def __init__(self, output_dir: str, label_ids: bool = False) -> None:
        super().__init__()
        self.output_dir, self.label_ids = Path(output_dir), label_ids

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Write the ``pred_sem_seg`` of samples."""
        if self.label_ids and 'label_ids' not in self.dataset_meta:
            raise UserError('--submit needs a dataset with label ids, such as Cityscapes; use --out instead')
        for sample in data_samples:
            labels = sample['pred_sem_seg']['data'].squeeze(0).cpu().numpy().astype(np.uint8)
            palette = self.dataset_meta['palette']
            if self.label_ids:
                labels, palette = np.asarray(self.dataset_meta['label_ids'], np.uint8)[labels], None
            save_labels(self.output_dir / name_of_labels(sample['img_path']), labels, palette)
            self.results.append(sample['img_path'])

    def compute_metrics(self, results: list) -> dict:
        """Return no metrics."""
        return {}
