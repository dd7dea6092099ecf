"""A line on the terminal that shows how far a training is. The log file stays complete."""
import logging
import re
import time
from collections import deque
from datetime import timedelta
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from rich.console import Console
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.text import Text

from ..registry import HOOKS
from .checkpointing import CheckpointHook, validations_left
from .curves import METRICS

REFRESH = 0.1  # Seconds between two drawings of the line.
AVERAGED = 50  # Iterations over which loss and duration are averaged.
BAR = 20  # Characters.
VALIDATION = 'validation'
# Messages that the line replaces on the terminal: progress of MMEngine, and MMSegmentation's table of each validation.
REPLACED = re.compile(r'(Epoch|Iter)\((train\)|val\).* eta: )|Exp name: |Saving checkpoint at |The previous best checkpoint |'
                      r'per class results:|\n\+-')


class _Console(Console):
    """Console that leaves the cursor visible, because a process that is killed could not show it again."""

    def show_cursor(self, show: bool = True) -> bool:
        """Do nothing."""
        return False


@HOOKS.register_module()
class LiveLineHook(Hook):
    """Hook that shows the progress in one line if stdout is a terminal: epoch, iteration, loss, metric and remaining time.

    The line takes the place of MMEngine's progress messages on the terminal; other messages appear above it. Only the main
    process draws. The line is drawn between iterations and not by a thread, so data loader workers can be forked at any time.
    """
    priority = 'LOWEST'  # Run after the metrics and the best score of a validation are known.

    def __init__(self) -> None:
        self.live: Live | None = None
        self.terminal: logging.StreamHandler | None = None
        self.stage = ''
        self.drawn = self.moment = self.validation_began = 0.0  # Points in time, in seconds.
        self.durations: deque[float] = deque(maxlen=AVERAGED)  # Of iterations, in seconds.
        self.validation = 0.0  # Duration of the last validation, in seconds.

    def before_train(self, runner: Runner) -> None:
        """Show the line if stdout is a terminal that can move its cursor."""
        terminal = next((handler for handler in runner.logger.handlers if type(handler) is logging.StreamHandler), None)
        if terminal is None or not is_main_process() or not terminal.stream.isatty():
            return
        console = _Console(file=terminal.stream, soft_wrap=True, highlight=False)
        if console.is_dumb_terminal:
            return
        self.live = Live(console=console, auto_refresh=False)
        self.live.start()
        self.terminal = terminal
        terminal.setStream(FileProxy(console, terminal.stream))
        terminal.addFilter(is_not_replaced)
        self.moment = time.monotonic()

    def before_train_epoch(self, runner: Runner) -> None:
        """Do not count the time between epochs as that of an iteration."""
        self.moment = time.monotonic()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None) -> None:
        """Update the line."""
        now = time.monotonic()
        self.durations.append(now - self.moment)
        self.moment = now
        in_epochs = not isinstance(runner.train_loop, IterBasedTrainLoop)
        self.stage = f'iteration {batch_idx + 1}/{len(runner.train_dataloader) if in_epochs else runner.max_iters}'
        self._draw(runner, runner.iter + 1)

    def before_val(self, runner: Runner) -> None:
        """Begin to measure a validation."""
        self.validation_began = time.monotonic()

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: list | None = None) -> None:
        """Update the line."""
        self.stage = f'{VALIDATION} {batch_idx + 1}/{len(runner.val_dataloader)}'
        self._draw(runner, runner.iter)

    def after_val(self, runner: Runner) -> None:
        """Show the metric."""
        self.moment = time.monotonic()
        self.validation = self.moment - self.validation_began
        self._draw(runner, runner.iter, now=True)

    def after_train(self, runner: Runner) -> None:
        """Leave the line as it is and restore the terminal."""
        self.close()

    def close(self) -> None:
        """Restore the terminal, also if training was interrupted."""
        if self.live is not None and self.terminal is not None:
            self.terminal.removeFilter(is_not_replaced)
            self.terminal.setStream(self.terminal.stream.rich_proxied_file)
            self.live.stop()
        self.live = None

    def _draw(self, runner: Runner, done: int, now: bool = False) -> None:
        if self.live is None or not now and time.monotonic() - self.drawn < REFRESH:
            return
        self.drawn = time.monotonic()
        seconds = (runner.max_iters - done) * sum(self.durations) / max(1, len(self.durations))
        seconds += validations_left(runner) * self.validation
        text = ', '.join([*progress_of(runner, self.stage), f'ETA {timedelta(seconds=round(seconds))}'])
        self.live.update(with_bar(text, done / runner.max_iters, self.live.console), refresh=True)


def progress_of(runner: Runner, stage: str) -> list[str]:
    """How far a training is, in words: epoch and stage, loss, and the metric of the last validation with its best value."""
    words = [stage]
    if not isinstance(runner.train_loop, IterBasedTrainLoop):  # A validation follows the end of an epoch.
        words = [f'epoch {runner.epoch + (not stage.startswith(VALIDATION))}/{runner.max_epochs}', stage]
    hub = runner.message_hub
    if 'train/loss' in hub.log_scalars:
        words.append(f'loss {hub.get_scalar("train/loss").mean(AVERAGED):.3f}')
    saver = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook) and hook.save_best), None)
    chosen = saver.key_indicators[:1] if saver else []
    for name in (*chosen, *METRICS):
        if f'val/{name}' in hub.log_scalars:
            best = hub.runtime_info.get('best_score') if name in chosen else None
            words.append(f'{name} {hub.get_scalar(f"val/{name}").current():.2f}' + (f' (best {best:.2f})' if best else ''))
            break
    return words


def with_bar(text: str, share: float, console: Console) -> Text:
    """The text with a bar after it, if the terminal is wide enough; cut off if it is too narrow."""
    done, character = round(BAR * share), '━' if console.encoding.startswith('utf') else '='
    line = Text(f'{text} ')
    if len(text) + 1 + BAR < console.width:
        line.append(character * done, 'green')
        line.append(character * (BAR - done), 'bright_black')
    line.truncate(console.width - 1)
    return line


def is_not_replaced(record: logging.LogRecord) -> bool:
    """Whether a message should appear although there is a line; a :mod:`logging` filter."""
    return record.levelno > logging.INFO or not REPLACED.match(record.getMessage())
