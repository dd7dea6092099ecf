"""Writing the predictions of a classifier while a test runs."""
import csv
from collections.abc import Sequence
from pathlib import Path

from mmengine.evaluator import BaseMetric

from ..registry import METRICS


@METRICS.register_module()
class PredictionWriter(BaseMetric):
    """Write a CSV file of image, label, prediction and score; not a metric, but the place where MMEngine hands predictions out.

    Args:
        output_file: the file; its folder must exist.
    """

    def __init__(self, output_file: str) -> None:
        super().__init__()
        self.output_file = Path(output_file)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the prediction of some samples."""
        classes = self.dataset_meta['classes']
        for sample in data_samples:
            label, prediction = classes[int(sample['gt_label'])], classes[int(sample['pred_label'])]
            self.results.append((sample['img_path'], label, prediction, f'{float(sample["pred_score"].max()):.4f}'))

    def compute_metrics(self, results: list) -> dict:
        """Write the file, in the order of the images. There is nothing to compute."""
        with open(self.output_file, 'w', newline='', encoding='utf-8') as file:
            csv.writer(file).writerows([('image', 'label', 'prediction', 'score'), *results])
        return {}
