"""Evaluate a model."""
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

TEST_REPORT = 'test.json'  # File name in the work dir.
# Names of MMSegmentation's metrics as printed by commands.
TITLES = {'mIoU': 'mIoU', 'mAcc': 'mean accuracy', 'aAcc': 'pixel accuracy'}


def in_words(metrics: Mapping[str, float | list]) -> str:
    """Format metrics in one line, without those that have a value for each class."""
    names = [name for name in metrics if name not in TITLES] + [name for name in TITLES if name in metrics]
    return ', '.join(f'{TITLES.get(name, name)} {metrics[name]:.2f}' for name in names
                     if not isinstance(metrics[name], list)) or 'no metrics'


class EvaluationRunner(ConciseRunner):
    """Runner of a test, which writes no config: that in its work dir is the training's, and a test has the same work dir."""

    def dump_config(self) -> None:
        """Do nothing."""


def evaluate(config: Config, weights: str | None, check: Callable[[nn.Module, Dataset, dict], None],
             finish: Callable[[Evaluator], dict] = lambda evaluator: {}, **record: object) -> dict[str, float | list]:
    """Evaluate weights on the config's test set, and write ``test.json`` to its ``work_dir``.

    Args:
        config: complete config.
        weights: path or URL of the weights; None if the config's model already has weights.
        check: function of the model, the test set and the checkpoint's ``meta`` that raises UserError if they do not match.
        finish: function of the evaluator that is called in the main process after the test; its result is added to
            ``test.json``.
        **record: further entries of ``test.json``.

    Returns:
        The metrics of the evaluator: numbers, or lists with a number for each class.

    Raises:
        CheckpointError: the weights cannot be read or do not fit.
    """
    config.load_from, config.resume = None, False
    notes = limit_workers(config)
    runner = EvaluationRunner.from_cfg(config)
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
