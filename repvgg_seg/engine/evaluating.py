"""Evaluating a model."""
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn
from torch.utils.data import Dataset

from ..core.errors import UserError
from ..models.pretrained import load_model
from .console import ConciseRunner
from .workers import limit_workers, lost_worker

TEST_REPORT = 'test.json'  # In the work dir.
# Metrics of MMSegmentation's, as a tool prints them.
TITLES = {'mIoU': 'mIoU', 'mAcc': 'mean accuracy', 'aAcc': 'pixel accuracy'}


def in_words(metrics: Mapping[str, float | list]) -> str:
    """Metrics in one line, those with a value for each class left out."""
    names = [name for name in metrics if name not in TITLES] + [name for name in TITLES if name in metrics]
    return ', '.join(f'{TITLES.get(name, name)} {metrics[name]:.2f}' for name in names
                     if not isinstance(metrics[name], list)) or 'no metrics'


def evaluate(config: Config, weights: str | None, check: Callable[[nn.Module, Dataset, dict], None],
             finish: Callable[[Evaluator], dict] = lambda evaluator: {}, **record: object) -> dict[str, float | list]:
    """Evaluate weights on the config's test set and leave ``test.json`` in its ``work_dir``.

    Args:
        config: the whole config.
        weights: of the config's model; None where it has them already.
        check: called with the model, the test set and the checkpoint's ``meta``; raises UserError where they do not fit.
        finish: called with the evaluator after the test, in the main process; what it returns goes into ``test.json`` too.
        **record: goes into ``test.json`` too.

    Returns:
        The metrics that the evaluator gives: numbers, or lists of them where it gives one for each class.

    Raises:
        CheckpointError: the weights cannot be read or do not fit.
    """
    config.load_from, config.resume = None, False
    notes = limit_workers(config)
    runner = ConciseRunner.from_cfg(config)
    for note in notes:
        runner.logger.warning(note)
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    trained = model.module if isinstance(model, BaseTTAModel) else model
    check(trained, runner.test_loop.dataloader.dataset, load_model(trained, weights) if weights else {})
    try:
        found = runner.test()
    except RuntimeError as error:
        if (lost := lost_worker(error)) is None:
            raise
        raise UserError(lost) from None
    metrics = {name: float(value) if np.ndim(value) == 0 else np.asarray(value).tolist() for name, value in found.items()}
    if is_main_process():
        Path(config.work_dir, TEST_REPORT).write_text(json.dumps({**record, **metrics, **finish(runner.test_evaluator)}))
    return metrics
