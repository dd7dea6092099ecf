"""Find out the metrics of an evaluator before anything is evaluated."""
from collections.abc import Iterable, Mapping, Sequence

import torch
from mmengine.evaluator import BaseMetric, Evaluator

from ..core.errors import UserError, some

IOU_METRICS = ('mIoU', 'mDice', 'mFscore')  # What MMSegmentation's IoUMetric computes.


def given_by(evaluator: Evaluator) -> list[str] | None:
    """Names of the metrics; None if a metric has an unknown type.

    Raises:
        UserError: a metric of MMSegmentation has settings that it refuses when it computes.
    """
    names: list[str] = []
    for metric in evaluator.metrics:
        if (tried := try_out(metric)) is None:
            return None
        names += [f'{metric.prefix}/{name}' if metric.prefix else name for name in tried]
    return names


def try_out(metric: BaseMetric) -> Iterable[str] | None:
    """Names that a metric of MMSegmentation or MMPretrain returns for a dummy result; None for other metrics."""
    kind = f'{type(metric).__module__.partition(".")[0]}.{type(metric).__name__}'
    if kind == 'mmseg.IoUMetric':
        if metric.format_only:
            return []
        if unknown := [name for name in metric.metrics if name not in IOU_METRICS]:
            raise UserError(f'iou_metrics of IoUMetric has {some(unknown)}; expected some of {", ".join(IOU_METRICS)}')
        areas = [torch.ones(2)] * 4
        return ['aAcc' if name == 'aAcc' else f'm{name}'
                for name in metric.total_area_to_metrics(*areas, metric.metrics, metric.nan_to_num, metric.beta)]
    if kind in ('mmpretrain.Accuracy', 'mmpretrain.SingleLabelMetric'):
        scores = torch.eye(max(getattr(metric, 'topk', (2,))) + 1)
        return list(metric.compute_metrics([dict(pred_score=score, gt_label=torch.tensor([label]))
                                            for label, score in enumerate(scores)]))
    return None


def check_save_best(wanted: Sequence[str] | None, given: Sequence[str] | Mapping) -> None:
    """Check that the metrics that choose the best checkpoint are metrics of the evaluator.

    Raises:
        UserError: a metric is not among them.
    """
    absent = [name for name in wanted or () if name not in given and not (name == 'auto' and given)]
    if absent:
        raise UserError(f'default_hooks.checkpoint.save_best is {", ".join(absent)}, but the val_evaluator gives '
                        f'{", ".join(given) or "no metrics"}; choose ' + ('among these, or None' if given else 'None'))
