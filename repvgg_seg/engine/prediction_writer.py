"""Write the predictions of a classifier during a test."""
import csv
from collections.abc import Sequence
from pathlib import Path

from mmengine.evaluator import BaseMetric

from ..registry import METRICS


@METRICS.register_module()
class PredictionWriter(BaseMetric):
    """Writes a CSV file of image, label, prediction and score. It is a metric because MMEngine passes predictions to metrics.

    Args:
        output_file: file to write; its folder must exist.
    """

    def __init__(self, output_file: str) -> None:
        super().__init__()
        self.output_file = Path(output_file)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Store the predictions of samples."""
        classes = self.dataset_meta['classes']
        for sample in data_samples:
            label, prediction = classes[int(sample['gt_label'])], classes[int(sample['pred_label'])]
            self.results.append((sample['img_path'], label, prediction, f'{float(sample["pred_score"].max()):.4f}'))

    def compute_metrics(self, results: list) -> dict:
        """Write the file in the order of the images, and return no metrics."""
        with open(self.output_file, 'w', newline='', encoding='utf-8') as file:
            csv.writer(file).writerows([('image', 'label', 'prediction', 'score'), *results])
        return {}
