"""Run the beginning of a training, to find mistakes and to learn how long it would take; nothing in the work dir changes."""
import copy
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner as MMEngineRunner

from ..core.config_types import type_name
from ..core.durations import in_words
from ..core.errors import UserError
from .checkpointing import validations_left
from .resolved_config import resolve_training, silent_visualizer
from .runner import Runner
from .training import Check, prepare
from .workers import lost_worker

ITERATIONS = 2  # The first one starts the workers and tunes the convolutions, so only the second one is representative.
LEFT_OUT = ('StopHook', 'LiveLineHook')  # Hooks: there is nothing to resume from, and no progress to show.
GIGABYTE = 2**30


@dataclass(frozen=True)
class Expectation:
    """What a whole training is expected to take.

    Args:
        iterations: number of iterations that are left.
        iteration: duration of an iteration, in seconds.
        validations: number of validations that are left.
        batches: number of batches in a validation.
        batch: duration of a validation batch, in seconds.
        memory: peak memory in bytes: of the GPU, or without one, of this process.
        device: whose memory it is, in words.
    """
    iterations: int
    iteration: float
    validations: int
    batches: int
    batch: float
    memory: int
    device: str

    @property
    def seconds(self) -> float:
        """Duration of the whole training."""
        return self.iterations * self.iteration + self.validations * self.batches * self.batch

    def __str__(self) -> str:
        validation = (f' and {self.validations} validations of {self.batches} batches ({self.batch:.2g} s each)'
                      if self.validations else '')
        return (f'The training would take about {in_words(self.seconds)}: {self.iterations} iterations ({self.iteration:.2g} s '
                f'each){validation}; and {self.memory / GIGABYTE:.1f} GiB of memory {self.device}')


class _Measured(Exception):
    """Ends a dry run."""


class _DryRunHook(Hook):
    """Hook that measures the second iteration and a validation batch, and then ends the run."""
    priority = 'LOWEST'

    def __init__(self) -> None:
        self.begun = self.iteration = self.batch = 0.0  # Point in time, and durations in seconds.
        self.done = self.left = self.validations = 0

    def before_train(self, runner: MMEngineRunner) -> None:
        """Note how much is left of a resumed run."""
        self.left, self.validations = runner.max_iters - runner.iter, validations_left(runner)

    def before_train_epoch(self, runner: MMEngineRunner) -> None:
        """Do not count the time between epochs as that of an iteration."""
        self.begun = time.monotonic()

    def after_train_iter(self, runner: MMEngineRunner, batch_idx: int, data_batch: Any = None,
                         outputs: dict | None = None) -> None:
        """Measure the iteration; after the last one, a validation batch.

        Raises:
            _Measured: everything was measured.
        """
        now = time.monotonic()
        self.iteration, self.begun = now - self.begun, now
        self.done += 1
        if self.done == min(ITERATIONS, self.left):
            if runner.val_loop is not None:
                self.batch = _seconds_of_batch(runner)
            raise _Measured


def _seconds_of_batch(runner: MMEngineRunner) -> float:
    """Duration of a validation batch, in seconds; of two attempts, because the first one tunes the convolutions."""
    runner.model.eval()
    batch = next(iter(runner.val_dataloader))
    for _ in range(2):
        start = time.monotonic()
        runner.val_loop.run_iter(0, batch)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    return time.monotonic() - start


class _DryRunner(Runner):
    """Runner whose work dir will be removed."""
    is_temporary = True

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger, without the message of MMEngine's hook that names the work dir."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            handler.addFilter(lambda record: not record.getMessage().startswith('Checkpoints will be saved to '))
        return logger


def dry_run(given: Config, check: Check, adapt: Callable[[Config], None] = lambda config: None) -> tuple[Config, Expectation]:
    """Check everything that a training checks, run two iterations and one validation batch, and write nothing.

    Args:
        given, check, adapt: see :func:`~repvgg_seg.engine.training.train`.

    Returns:
        The config that the training would use, and what to expect of it.

    Raises:
        UserError: the training would not start, or its first iterations fail.
    """
    config, warnings = resolve_training(given, adapt)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory(prefix='dry-run-') as folder:
        runner = prepare(given, config, warnings, check, partial(_build, folder))
        hook = _DryRunHook()
        runner.register_hook(hook)
        try:
            runner.train()
        except _Measured:
            pass
        except RuntimeError as error:
            if (lost := lost_worker(error)) is None:
                raise
            raise UserError(lost) from None
    batches = len(runner.val_dataloader) if runner.val_loop is not None else 0
    return config, Expectation(hook.left, hook.iteration, hook.validations, batches, hook.batch, *peak_memory())


def _build(folder: str, config: Config) -> Runner:
    """Build a runner that writes only to a folder."""
    config = copy.deepcopy(config)
    config.work_dir = folder
    for name in ('checkpoint', 'logger'):
        if (settings := (config.get('default_hooks') or {}).get(name)) is not None:
            settings.out_dir = None
    config.visualizer = silent_visualizer(config)
    config.custom_hooks = [hook for hook in config.custom_hooks if type_name(hook) not in LEFT_OUT]
    return _DryRunner.from_cfg(config)


def peak_memory() -> tuple[int, str]:
    """Peak memory in bytes, and whose it is in words: that of the GPU, or without one, of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved(), 'on the GPU'
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, 'in this process, besides its data loader workers'
