"""Writing predictions as label files while a test runs."""
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.evaluator import BaseMetric

from ..core.errors import UserError
from ..core.visualization import save_labels
from ..registry import METRICS


def name_of_labels(image: str) -> str:
    """The name of the file with the labels that were predicted for an image file."""
    return f'{Path(image).stem}.png'


@METRICS.register_module()
class LabelWriter(BaseMetric):
    """Write each prediction as ``IMAGE-NAME.png``; not a metric, but the place where MMEngine hands predictions out.

    Args:
        output_dir: folder for the files; it is made if it does not exist.
        label_ids: write the dataset's original label ids, as the Cityscapes server wants them, instead of class indices
            with a palette.
    """

    def __init__(self, output_dir: str, label_ids: bool = False) -> None:
        super().__init__()
        self.output_dir, self.label_ids = Path(output_dir), label_ids

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Write the ``pred_sem_seg`` of some samples."""
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
        """Nothing to compute."""
        return {}
