"""Checkpoints that are whole, that say where exactly a run stood, and of which none is deleted before its successor is safe."""
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
    """MMEngine's backend for local files, in which a file that is written appears whole or not at all."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; see :func:`repvgg_seg.core.files.write_atomically`."""
        write_atomically(obj, Path(filepath))


class PatientBackend(AtomicBackend):
    """The same, in which files to be removed stay until :meth:`flush`."""

    def __init__(self) -> None:
        self.doomed: list[Path] = []

    def remove(self, filepath: str | Path) -> None:
        """Note a file to be removed."""
        self.doomed.append(Path(filepath))

    def flush(self) -> None:
        """Remove what was noted."""
        for path in self.doomed:
            path.unlink(missing_ok=True)
        self.doomed.clear()


@register_backend(MEMORY)
class MemoryBackend(LocalBackend):
    """A place for a checkpoint that may be needed.

    Args:
        files: where it is put, by path.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Note the bytes of a file."""
        self.files[str(filepath)] = obj


@HOOKS.register_module()
class CheckpointHook(_MMEngineCheckpointHook):
    """MMEngine's hook, with which a run loses nothing when it is killed.

    - Files appear atomically, and those that they replace are removed afterwards; MMEngine removes first and writes in place.
    - Weights that are not finite are not written.
    - The states of the random generators of all processes are saved, and taken up again when a run is resumed.
    - A validation that was cut off is caught up on when the run is resumed. As hooks put other weights into the model for its
      time, such as averages, nothing to resume from is taken from the model then.
    - Gradients that wait for a step (``accumulative_counts``) and what ``EarlyStoppingHook`` has counted are saved too.

    Args:
        **kwargs: of MMEngine's hook. Where ``out_dir`` is no local folder, or ``backend_args`` or ``file_client_args`` are
            given, files are written as MMEngine does it.

    Raises:
        UserError: both of these are given, or ``rule`` is needed and absent.
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
        self.is_training = False  # Validations without a training, as in Runner.val(), save nothing.
        self.resumed_states: list[dict] | None = None  # Until training goes on.
        self.random_states: list[dict] | None = None  # While a checkpoint to resume from is written.
        self.saved: int | None = None  # Iterations of the last checkpoint to resume from that this run wrote.
        self.validating = False
        self.held: dict[str, bytes] = {}  # What to resume from if the validation that goes on is broken off, if not on disk.
        self.postponed: tuple[int, dict] | None = None  # Checkpoint that is to be written after the validation.

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note where the run that is resumed stood."""
        if runner._resume:
            self.resumed_states = checkpoint.get(RANDOM_STATES, [])
            restore_early_stopping(runner, checkpoint.get(EARLY_STOPPING))

    def before_train(self, runner: Runner) -> None:
        """Take up the random state of a resumed run, and its validation if that was cut off."""
        super().before_train(runner)
        self.is_training = True
        if self.resumed_states is not None:
            self._find_best_here(runner)
        if self.is_local:
            self.file_backend = PatientBackend()
            if is_main_process():
                remove_temporaries(Path(self.out_dir), '*.pth')
        if self.resumed_states is not None:
            if get_rank() < len(self.resumed_states):  # Of more processes than before the others start from the seed.
                restore_random_state(self.resumed_states[get_rank()])
            self.resumed_states = None
            if validation_is_due(runner):
                runner.logger.info('The validation after the last checkpoint was cut off; it is done now')
                runner.val_loop.run()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the states of the random generators.

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
        """Save the best checkpoint of a training."""
        if self.is_training:
            runner.message_hub.update_info('last_validation', steps_done(runner))
            if metrics:
                check_save_best(self.save_best, metrics)
        if self.is_training or not metrics:  # Of which MMEngine warns.
            super().after_val_epoch(runner, metrics)

    def before_validation(self, runner: Runner) -> None:
        """Hold what a checkpoint of this moment would be, before any hook changes the model for the validation."""
        if not self.is_training:
            return
        if self.saved != runner.iter:
            self._save_interrupted(runner, runner.iter, backend_args=dict(backend=MEMORY, files=self.held))
        self.validating = True

    def after_validation(self, runner: Runner) -> None:
        """Write what was postponed, after all hooks have taken back what they changed."""
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
        """Save a checkpoint wherever the run stands, ``interrupted.pth``, which the next regular one outdates.

        Args:
            runner: of the run.
            iterations: that were done.

        Returns:
            Path of the checkpoint to go on from; a regular one where that is of the same moment.
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
        """Look in the own folder for the best checkpoints that a resumed run names; those of a copied one are elsewhere.

        MMEngine would remove the original's when a better one is found.
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
    """State dicts of schedulers (by optimizer) without the functions that some hold (OneCycleLR), which are code in a file."""
    if isinstance(states, dict):
        return {key: without_functions(each) for key, each in states.items()}
    return [{key: value for key, value in state.items() if not callable(value)} for state in states]


def steps_done(runner: Runner) -> int:
    """Epochs that were finished, or of an iteration-based loop the iterations: what it counts validations by."""
    return runner.iter if isinstance(runner.train_loop, IterBasedTrainLoop) else runner.epoch


def validation_is_due(runner: Runner) -> bool:
    """Whether a validation belongs between the checkpoint that was resumed and the next step, and was not finished."""
    loop, done = runner.train_loop, steps_done(runner)
    if runner.val_loop is None or getattr(loop, 'epoch_begin', runner.iter) != runner.iter:
        return False
    loop._decide_current_val_interval()
    last = runner.max_iters if isinstance(loop, IterBasedTrainLoop) else runner.max_epochs
    return (done >= max(1, loop.val_begin) and (done % loop.val_interval == 0 or done == last)
            and runner.message_hub.runtime_info.get('last_validation') != done)


def early_stopping(runner: Runner) -> dict:
    """What MMEngine's ``EarlyStoppingHook`` has counted, beside its settings, and whether it has ended the training."""
    return dict(hooks=[dict(vars(hook)) for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)],
                stopped=getattr(runner.train_loop, 'stop_training', False))


def restore_early_stopping(runner: Runner, state: dict | None) -> None:
    """Go on counting, with the settings of the config; a training that ended by the same settings has ended."""
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
    """Gradients of the passes since the last step, the mean over all processes, by name of the parameter; none after a step."""
    if not any(wrapper.inner_count and not wrapper.should_update() for wrapper in optim_wrappers(runner).values()):
        return {}
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    for gradient in gradients.values():
        all_reduce(gradient, op='mean')
    return {name: gradient.cpu() for name, gradient in gradients.items()}
