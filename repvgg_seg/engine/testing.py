"""Evaluating a model."""
import json
from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from ..checkpoints import load_model


def evaluate(config: Config, weights: str | None, check: Callable[[nn.Module, Dataset, dict], None],
             **record) -> dict[str, float]:
    """Evaluate weights on the config's test set and leave ``test.json`` in its ``work_dir``.

    Args:
        config: the whole config.
        weights: of the config's model; None where it has them already.
        check: called with the model, the test set and the checkpoint's ``meta``; raises UserError where they do not fit.
        **record: goes into ``test.json`` too.

    Returns:
        The metrics.

    Raises:
        CheckpointError: the weights cannot be read or do not fit.
    """
    config.load_from, config.resume = None, False
    runner = Runner.from_cfg(config)
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    trained = model.module if isinstance(model, BaseTTAModel) else model
    check(trained, runner.test_loop.dataloader.dataset, load_model(trained, weights) if weights else {})
    metrics = {name: float(value) for name, value in runner.test().items()}
    if is_main_process():
        Path(config.work_dir, 'test.json').write_text(json.dumps({**record, **metrics}))
    return metrics
