"""The names of metrics before anything is evaluated."""
import re

import pytest
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.registry import init_default_scope

from repvgg_seg.core.errors import UserError
from repvgg_seg.engine.metrics import check_save_best, given_by


class Own(BaseMetric):
    """Of a user's."""

    def process(self, *_) -> None: ...

    def compute_metrics(self, results) -> dict: ...


@pytest.mark.parametrize(('metric', 'names'), [
    (dict(iou_metrics=['mIoU']), ['aAcc', 'mIoU', 'mAcc']),
    (dict(iou_metrics=['mDice']), ['aAcc', 'mDice', 'mAcc']),
    (dict(iou_metrics=['mFscore'], prefix='val'), ['val/aAcc', 'val/mFscore', 'val/mPrecision', 'val/mRecall']),
    (dict(format_only=True, output_dir='out'), [])])
def test_names_of_a_segmentors_metric(metric, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    init_default_scope('mmseg')
    assert given_by(Evaluator(dict(type='IoUMetric', **metric))) == names


def test_a_metric_that_the_evaluator_does_not_know():
    init_default_scope('mmseg')
    with pytest.raises(UserError) as raised:
        given_by(Evaluator(dict(type='IoUMetric', iou_metrics=['mIoU', 'mIoUU'])))
    assert str(raised.value) == 'iou_metrics of IoUMetric has mIoUU; expected some of mIoU, mDice, mFscore'


@pytest.mark.parametrize(('metric', 'names'), [
    (dict(type='Accuracy', topk=(1, 5)), ['accuracy/top1', 'accuracy/top5']),
    (dict(type='Accuracy', thrs=(0.0, 0.5)), ['accuracy/top1_thr-0.00', 'accuracy/top1_thr-0.50']),
    (dict(type='SingleLabelMetric', items=('precision', 'recall'), average=None),
     ['single-label/precision_classwise', 'single-label/recall_classwise'])])
def test_names_of_a_classifiers_metric(metric, names):
    init_default_scope('mmpretrain')
    assert given_by(Evaluator(metric)) == names


def test_metric_of_another_kind():
    assert given_by(Evaluator(Own())) is None


@pytest.mark.parametrize(('wanted', 'given', 'end'), [
    (['mIoU'], ['aAcc', 'mDice'], 'mIoU, but the val_evaluator gives aAcc, mDice; choose among these, or None'),
    (['aAcc', 'x', 'y'], ['aAcc'], 'x, y, but the val_evaluator gives aAcc; choose among these, or None'),
    (['auto'], [], 'auto, but the val_evaluator gives no metrics; choose None')])
def test_absent_metric(wanted, given, end):
    with pytest.raises(UserError, match=f'^default_hooks.checkpoint.save_best is {re.escape(end)}$'):
        check_save_best(wanted, given)


@pytest.mark.parametrize(('wanted', 'given'), [(None, []), (['auto'], ['a']), (['a'], dict(a=1, b=2))])
def test_metric_that_is_there(wanted, given):
    check_save_best(wanted, given)
