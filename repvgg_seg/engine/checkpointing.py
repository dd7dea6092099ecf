"""Checkpoints that are written atomically, that record the exact position of a run, and that are only deleted once the next one
is safely on disk."""
from pathlib import Path
from typing import Any, TypeVar

from mmengine.dist import all_gather_object, all_reduce, get_rank, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook as _MMEngineCheckpointHook
from mmengine.hooks import EarlyStoppingHook
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import Tensor

from ..core.errors import TrainingError, UserError, some
from ..core.files import remove_temporaries, write_atomically
from ..models.weights import not_finite
from ..registry import HOOKS
from .metrics import check_save_best
from .optimization import GRADIENTS, optim_wrappers
from .random_state import random_state, restore_random_state
from .resuming import INTERRUPTED, advice

ATOMIC, MEMORY = 'repvgg_seg.atomic', 'repvgg_seg.memory'
RANDOM_STATES, EARLY_STOPPING = 'random_states', 'early_stopping'
States = TypeVar('States', list[dict], dict[str, list[dict]])


@register_backend(ATOMIC)
class AtomicBackend(LocalBackend):
    """MMEngine's backend for local files, with atomic writes: a file appears complete or not at all."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; see :func:`repvgg_seg.core.files.write_atomically`."""
        write_atomically(obj, Path(filepath))


class DeferredRemovalBackend(AtomicBackend):
    """An atomic backend that defers the removal of files until :meth:`flush`."""

    def __init__(self) -> None:
        self.marked: list[Path] = []

    def remove(self, filepath: str | Path) -> None:
        """Mark a file for removal."""
        self.marked.append(Path(filepath))

    def flush(self) -> None:
        """Remove the marked files."""
        for path in self.marked:
            path.unlink(missing_ok=True)
        self.marked.clear()


@register_backend(MEMORY)
class MemoryBackend(LocalBackend):
    """A backend that keeps files in memory, for a checkpoint that may be needed later.

    Args:
        files: dictionary for the contents of files, by path.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Store the contents of a file."""
        self.files[str(filepath)] = obj


@HOOKS.register_module()
class CheckpointHook(_MMEngineCheckpointHook):
    """MMEngine's checkpoint hook, extended so that a run can be killed at any time without losing a checkpoint.

    - Files are written atomically, and the files that they replace are removed afterwards. MMEngine removes the old files first
      and writes in place.
    - Weights that are not finite are never written.
    - The random states of all processes are saved, and restored when the run is resumed.
    - If validation was interrupted, it runs when training resumes. Because hooks may swap other weights into the model during
      validation, such as averages, no checkpoint to resume from is taken from the model at that time.
    - Accumulated gradients that have not been applied yet (``accumulative_counts``) and the counters of ``EarlyStoppingHook``
      are saved, too.

    Args:
        **kwargs: arguments of MMEngine's hook. If ``out_dir`` is not a local folder, or if ``backend_args`` or
            ``file_client_args`` are given, files are written as MMEngine writes them.

    Raises:
        UserError: both ``backend_args`` and ``file_client_args`` are given, or ``rule`` is needed but missing.
    """

    backend_args: dict | None
    _default_greater_keys = [*_MMEngineCheckpointHook._default_greater_keys, 'mFscore', 'recall', 'f1-score']

    def __init__(self, **kwargs: Any) -> None:
        if None not in (kwargs.get('file_client_args'), kwargs.get('backend_args')):
            raise UserError('"file_client_args" and "backend_args" cannot be set at the same time; keep only '
                            'default_hooks.checkpoint.backend_args')
        super().__init__(**kwargs)
        self.is_local = self.backend_args is None and self.file_client_args is None and '://' not in str(self.out_dir)
        if self.is_local:
            self.backend_args = dict(backend=ATOMIC)
        self.is_training = False  # Validation outside of training, as in Runner.val(), saves nothing.
        self.resumed_states: list[dict] | None = None  # Random states of a resumed checkpoint, until training continues.
        self.random_states: list[dict] | None = None  # Set while a checkpoint to resume from is being written.
        self.saved: int | None = None  # Iteration of the last checkpoint to resume from that this run wrote.
        self.validating = False
        self.held: dict[str, bytes] = {}  # Checkpoint to resume from if validation is interrupted; empty if it is on disk.
        self.postponed: tuple[int, dict] | None = None  # Checkpoint to write after validation.

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the random states of a resumed run, and restore its early stopping counters."""
        if runner._resume:
            self.resumed_states = checkpoint.get(RANDOM_STATES, [])
            restore_early_stopping(runner, checkpoint.get(EARLY_STOPPING))

    def before_train(self, runner: Runner) -> None:
        """Restore the random state of a resumed run, and run its last validation if that was interrupted."""
        super().before_train(runner)
        self.is_training = True
        if self.resumed_states is not None:
            self._find_best_here(runner)
        if self.is_local:
            self.file_backend = DeferredRemovalBackend()
            if is_main_process():
                remove_temporaries(Path(self.out_dir), '*.pth')
        if self.resumed_states is not None:
            if get_rank() < len(self.resumed_states):  # Any additional processes start from the seed.
                restore_random_state(self.resumed_states[get_rank()])
            self.resumed_states = None
            if validation_is_due(runner):
                runner.logger.info('The validation after the last checkpoint was cut off; it is done now')
                runner.val_loop.run()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the random states, early stopping counters, and accumulated gradients.

        Raises:
            TrainingError: a weight is not finite; nothing was written.
        """
        if broken := not_finite(checkpoint['state_dict']):
            raise TrainingError(f'after iteration {checkpoint["meta"]["iter"]} weights are not finite ({some(broken)}); they '
                                f'were not saved. {advice(Path(self.out_dir or runner.work_dir))}')
        if self.random_states:
            checkpoint[RANDOM_STATES] = self.random_states
        if 'optimizer' in checkpoint:
            checkpoint[EARLY_STOPPING] = early_stopping(runner)
            if gradients := waiting_gradients(runner):
                checkpoint[GRADIENTS] = gradients
        if 'param_schedulers' in checkpoint:
            checkpoint['param_schedulers'] = without_functions(checkpoint['param_schedulers'])

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Save the best checkpoint during training."""
        if self.is_training:
            runner.message_hub.update_info('last_validation', steps_done(runner))
            if metrics:
                check_save_best(self.save_best, metrics)
        if self.is_training or not metrics:  # Without metrics, MMEngine logs a warning.
            super().after_val_epoch(runner, metrics)

    def before_validation(self, runner: Runner) -> None:
        """Keep a checkpoint of the current state in memory, before any hook changes the model for validation."""
        if not self.is_training:
            return
        if self.saved != runner.iter:
            self._save_interrupted(runner, runner.iter, backend_args=dict(backend=MEMORY, files=self.held))
        self.validating = True

    def after_validation(self, runner: Runner) -> None:
        """Write the postponed checkpoint, after all hooks have undone their changes to the model."""
        if not self.validating:
            return
        self.validating = False
        self.held.clear()
        if self.postponed is not None:
            step, meta = self.postponed
            self.postponed = None
            self._save_checkpoint_with_step(runner, step, meta)
        self._flush()

    def save_interrupted(self, runner: Runner, iterations: int) -> str:
        """Save a checkpoint of the current state to ``interrupted.pth``. The next regular checkpoint makes it obsolete.

        Args:
            runner: runner of the run.
            iterations: number of completed iterations.

        Returns:
            Path of the checkpoint to resume from; a regular checkpoint if one has the same state.
        """
        path = self.file_backend.join_path(self.out_dir, INTERRUPTED)
        if not self.validating:
            self._save_interrupted(runner, iterations, backend_args=self.backend_args, file_client_args=self.file_client_args)
        elif not self.held:
            return str(self.last_ckpt)
        elif is_main_process():
            self.file_backend.put(next(iter(self.held.values())), path)
        return str(path)

    def _save_interrupted(self, runner: Runner, iterations: int, **where: dict | None) -> None:
        self.random_states = all_gather_object(random_state())
        runner.save_checkpoint(self.out_dir, INTERRUPTED, meta=dict(epoch=runner.epoch, iter=iterations), **where)
        self.random_states = None

    def _find_best_here(self, runner: Runner) -> None:
        """Look for the best checkpoints of a resumed run in its own folder, because a copied run records the original's paths.

        Otherwise MMEngine would remove the original run's checkpoint when it finds a better one.
        """
        self.last_ckpt = runner.message_hub.runtime_info.get('last_ckpt')
        for key, path in dict(runner.message_hub.runtime_info).items():
            if key.startswith('best_ckpt') and path:
                here = self.file_backend.join_path(self.out_dir, Path(path).name)
                runner.message_hub.update_info(key, here := here if self.file_backend.exists(here) else None)
                if key == 'best_ckpt':
                    self.best_ckpt_path = here
                elif self.save_best is not None and len(self.key_indicators) > 1:
                    self.best_ckpt_path_dict[key.removeprefix('best_ckpt_')] = here

    def _init_rule(self, rules: list, key_indicators: list[str]) -> None:
        try:
            super()._init_rule(rules, key_indicators)
        except ValueError:
            raise UserError(f'whether more of {some(key_indicators)} is better or worse is not known; set '
                            'default_hooks.checkpoint.rule to greater or less') from None

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        if self.validating:
            self.postponed = step, meta
            return
        self.random_states = all_gather_object(random_state())
        super()._save_checkpoint_with_step(runner, step, meta)
        self.random_states = None
        if self.save_optimizer:
            self.saved = meta['iter']
            if self.is_local:
                self.file_backend.remove(Path(self.out_dir, INTERRUPTED))
        self._flush()

    def _flush(self) -> None:
        if self.is_local and is_main_process():
            self.file_backend.flush()


def without_functions(states: States) -> States:
    """Remove functions from state dicts of schedulers (by optimizer). Some schedulers, such as OneCycleLR, store functions,
    which would put code into the checkpoint."""
    if isinstance(states, dict):
        return {key: without_functions(each) for key, each in states.items()}
    return [{key: value for key, value in state.items() if not callable(value)} for state in states]


def steps_done(runner: Runner) -> int:
    """Completed epochs, or completed iterations for an iteration-based loop: the unit in which validations are scheduled."""
    return runner.iter if isinstance(runner.train_loop, IterBasedTrainLoop) else runner.epoch


def last_step(runner: Runner) -> int:
    """Last epoch, or last iteration for an iteration-based loop; see :func:`steps_done`."""
    return runner.max_iters if isinstance(runner.train_loop, IterBasedTrainLoop) else runner.max_epochs


def validation_is_due(runner: Runner) -> bool:
    """Whether validation is due between the resumed checkpoint and the next step, and was not completed."""
    loop, done = runner.train_loop, steps_done(runner)
    if runner.val_loop is None or getattr(loop, 'epoch_begin', runner.iter) != runner.iter:
        return False
    loop._decide_current_val_interval()
    return (done >= max(1, loop.val_begin) and (done % loop.val_interval == 0 or done == last_step(runner))
            and runner.message_hub.runtime_info.get('last_validation') != done)


def validations_left(runner: Runner) -> int:
    """Number of validations after the next steps until the end of training, at the current interval."""
    loop, last = runner.train_loop, last_step(runner)
    before = max(steps_done(runner), loop.val_begin - 1)
    if runner.val_loop is None or before >= last:
        return 0
    return last // loop.val_interval - before // loop.val_interval + (last % loop.val_interval > 0)


def early_stopping(runner: Runner) -> dict:
    """Counters and settings of MMEngine's ``EarlyStoppingHook``, and whether it has stopped the training."""
    return dict(hooks=[dict(vars(hook)) for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)],
                stopped=getattr(runner.train_loop, 'stop_training', False))


def restore_early_stopping(runner: Runner, state: dict | None) -> None:
    """Restore the early stopping counters, with the settings of the config. If training was stopped early with the same
    settings, it remains stopped."""
    if state is None:
        return
    hooks = [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]
    for hook, before in zip(hooks, state['hooks']):
        if (hook.monitor, hook.rule) == (before['monitor'], before['rule']):
            settings = dict(vars(hook))
            hook.wait_count, hook.best_score = before['wait_count'], before['best_score']
            if state['stopped'] and vars(hook) == {**settings, **before}:
                runner.train_loop.stop_training = True


def waiting_gradients(runner: Runner) -> dict[str, Tensor]:
    """Gradients accumulated since the last step, averaged over all processes, by parameter name; empty right after a step."""
    if not any(wrapper.inner_count and not wrapper.should_update() for wrapper in optim_wrappers(runner).values()):
        return {}
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    for gradient in gradients.values():
        all_reduce(gradient, op='mean')
    return {name: gradient.cpu() for name, gradient in gradients.items()}
