"""Trainings of a tiny model in a tenth of a second, with all that has a state: batch norm, dropout, momentum, random data."""
import itertools
import signal
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from torch import Tensor, nn
from torch.utils.data import Dataset

from repvgg_seg.core.errors import Interruption
from repvgg_seg.core.reading import read_checkpoint
from repvgg_seg.engine.resuming import candidates
from repvgg_seg.engine.training import train

IMAGES, BATCH = 6, 2
NUMBERS = itertools.count()


@DATASETS.register_module()
class NoiseDataset(Dataset):
    """Vectors that differ each time."""

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return dict(inputs=torch.rand(4) + index)


@MODELS.register_module()
class TinyModel(BaseModel):
    """Two layers that are trained to give the mean of their input."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3))
        self.head = nn.Linear(8, 1)

    def forward(self, inputs: list[Tensor], mode: str = 'tensor') -> dict[str, Tensor] | list[Tensor]:
        inputs = torch.stack(inputs)
        outputs = self.head(self.layers(inputs)).squeeze(1)
        return dict(loss=(outputs - inputs.mean(1)).square().mean()) if mode == 'loss' else list(outputs)


@METRICS.register_module()
class TinyMetric(BaseMetric):
    """A score of predictions that goes up and down."""

    def process(self, data_batch, data_samples) -> None:
        self.results += [float(sample) for sample in data_samples]

    def compute_metrics(self, results: list) -> dict[str, float]:
        return dict(acc=sum(results) * 1e3 % 1)


class Killed(BaseException):
    """In the place of SIGKILL: nothing is written any more."""


@HOOKS.register_module()
class Moment(Hook):
    """Stop or kill the run when a hook of some name is called after as many iterations as given."""

    def __init__(self, stage: str, iterations: int, kill: bool = False, priority: str | int = 'VERY_HIGH') -> None:
        self.stage, self.iterations, self.kill, self.priority = stage, iterations, kill, priority
        setattr(self, stage, self.called)

    def get_triggered_stages(self) -> list[str]:
        """The one stage."""
        return [self.stage]

    def called(self, runner, *_, **__) -> None:
        if runner.iter + (self.stage == 'after_train_iter') == self.iterations:
            self.iterations = 0  # Once; a second signal would end the process.
            if self.kill:
                raise Killed
            signal.raise_signal(signal.SIGTERM)


def settings(work_dir: Path, **changes) -> Config:
    """The config of a run of four epochs of three iterations."""
    loader = dict(batch_size=BATCH, num_workers=0, dataset=dict(type='NoiseDataset'))
    config = Config(dict(
        default_scope='mmengine', work_dir=str(work_dir), experiment_name=f'run{next(NUMBERS)}', log_level='ERROR',
        model=dict(type='TinyModel'), randomness=dict(seed=7), resume=False, load_from=None,
        train_dataloader=dict(loader, sampler=dict(type='DefaultSampler', shuffle=True)),
        val_dataloader=dict(loader, sampler=dict(type='DefaultSampler', shuffle=False)),
        val_evaluator=dict(type='TinyMetric'), val_cfg=dict(),
        train_cfg=dict(by_epoch=True, max_epochs=4, val_interval=1),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-3)),
        param_scheduler=[dict(type='PolyLR', power=0.9, end=4, by_epoch=True, convert_to_iter_based=True)],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2, save_best='acc'),
                           logger=dict(type='LoggerHook', interval=100)),
        custom_hooks=[]))
    for key, value in changes.items():
        if '.' in key:
            config.merge_from_dict({key: value})
        else:
            config[key] = value
    return config


def run(config: Config, *hooks: dict) -> str:
    """Train.

    Returns:
        What a signal ended it with; 'killed', or 'done'.
    """
    config.custom_hooks = [*(config.get('custom_hooks') or []), *hooks]
    torch.manual_seed(0)
    try:
        train(config, lambda *_: None)
    except Interruption as interruption:
        return str(interruption)
    except Killed:
        return 'killed'
    return 'done'


def last(work_dir: Path) -> dict:
    """The checkpoint with the most iterations."""
    return dict(read_checkpoint(candidates(work_dir)[0]))
