"""Stop training early, because of a signal or because the loss is no longer finite."""
import math
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..core.errors import Interruption, TrainingError
from ..registry import HOOKS
from .checkpointing import CheckpointHook
from .resuming import advice

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NOTHING_LEFT = 'this config saves no checkpoints'


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Hook that stops training when the loss is infinite or NaN, before the resulting weights are saved."""
    priority = 'ABOVE_NORMAL'

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None) -> None:
        """Check the loss of an iteration.

        Raises:
            TrainingError: the loss is not finite, in this process or in another one.
        """
        loss = float(torch.as_tensor((outputs or {}).get('loss', 0.0)).detach())
        if anywhere(not math.isfinite(loss)):
            where = f'{loss:g}' if not math.isfinite(loss) else 'not finite in another process'
            raise TrainingError(
                f'the loss is {where} in iteration {runner.iter + 1}; its weights were not saved. '
                f'{advice(Path(runner.work_dir))}. Lower optim_wrapper.optimizer.lr, warm it up, or clip gradients '
                '(optim_wrapper.clip_grad.max_norm=1), or train without --amp')


@HOOKS.register_module()
class StopHook(Hook):
    """Hook that handles Ctrl-C, SIGTERM, and SIGHUP: it finishes the iteration, saves a checkpoint, and stops.

    A second signal ends the process immediately. Processes that train together stop after the same iteration.
    """
    priority = 'LOWEST'  # Run after the schedulers have stepped and the regular checkpoint has been written.

    def __init__(self) -> None:
        self.received: int | None = None
        self.in_iteration = False  # During an iteration the state is inconsistent and cannot be saved.
        self.handlers: dict[int, Callable | int | None] = {}

    def before_run(self, runner: Runner) -> None:
        """Install the signal handlers."""
        self.handlers = {number: signal.signal(number, self._receive) for number in SIGNALS
                         if signal.getsignal(number) != signal.SIG_IGN}  # nohup and background shells ignore signals.

    def after_run(self, runner: Runner) -> None:
        """Restore the previous signal handlers."""
        self.restore_handlers()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Disable PyTorch's handler for dead workers, which would interrupt an iteration; PyTorch still notices later."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.in_iteration = True

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None) -> None:
        """Stop if a signal was received.

        Raises:
            Interruption: a signal was received; a checkpoint was written.
        """
        self.in_iteration = False
        if anywhere(self.received is not None):
            self.stop(runner, runner.iter + 1)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: list | None = None) -> None:
        """Stop if a signal was received, as after a training iteration."""
        if anywhere(self.received is not None):
            self.stop(runner, runner.iter)

    def stop(self, runner: Runner, iterations: int) -> None:
        """Save a checkpoint and end the run.

        Args:
            runner: runner of the run.
            iterations: number of completed iterations.

        Raises:
            Interruption: always.
        """
        left = self.save(runner, iterations)
        number = self.received or signal.SIGTERM
        raise Interruption(f'stopped by {signal.Signals(number).name} after iteration {iterations}; {left}', number,
                           resumable=left != NOTHING_LEFT)

    def save(self, runner: Runner, iterations: int) -> str:
        """Save a checkpoint of the current state, after ``iterations`` iterations, and return a message that names it."""
        saver = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
        if saver is None:
            return NOTHING_LEFT
        return f'the run can be resumed from {saver.save_interrupted(runner, iterations)}'

    def restore_handlers(self) -> None:
        """Restore the signal handlers that were active before."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.handlers = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self.restore_handlers()
        # The data loader's workers may receive the signal, too; their exit must not interrupt the iteration.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def anywhere(condition: bool) -> bool:
    """Whether a condition holds in any of the processes that train together."""
    if get_world_size() == 1:
        return condition
    flag = torch.tensor(int(condition), device=get_device())
    all_reduce(flag, op='max')
    return bool(flag)
