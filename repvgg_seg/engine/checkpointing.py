"""Checkpoints that are whole, that say where exactly a run stood, and of which none is deleted before its successor is safe."""
from pathlib import Path

from mmengine.dist import all_gather_object, get_rank, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook as _MMEngineCheckpointHook
from mmengine.runner import IterBasedTrainLoop, Runner

from ..errors import TrainingError, UserError, some
from ..files import remove_temporaries, write_atomically
from ..registry import HOOKS
from ..weights import not_finite
from .metrics import check_save_best
from .random_state import random_state, restore_random_state
from .resuming import INTERRUPTED, advice

ATOMIC = 'repvgg_seg.atomic'
RANDOM_STATES = 'random_states'


@register_backend(ATOMIC)
class AtomicBackend(LocalBackend):
    """MMEngine's backend for local files, in which a file that is written appears whole or not at all."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; see :func:`repvgg_seg.files.write_atomically`."""
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


@HOOKS.register_module()
class CheckpointHook(_MMEngineCheckpointHook):
    """MMEngine's hook, with which a run loses nothing when it is killed.

    - Files appear atomically, and those that they replace are removed afterwards; MMEngine removes first and writes in place.
    - Weights that are not finite are not written.
    - The states of the random generators of all processes are saved, and taken up again when a run is resumed.
    - A validation that was cut off is made up for when the run is resumed.

    Args:
        **kwargs: of MMEngine's hook. Where ``out_dir`` is no local folder, or ``backend_args`` are given, files are written as
            MMEngine does it.
    """

    _default_greater_keys = [*_MMEngineCheckpointHook._default_greater_keys, 'mFscore', 'recall', 'f1-score']

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.is_local = self.backend_args is None and '://' not in str(self.out_dir)
        if self.is_local:
            self.backend_args = dict(backend=ATOMIC)
        self.resumed_states: list[dict] | None = None  # Until training goes on.
        self.random_states: list[dict] | None = None  # While a checkpoint to resume from is written.

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note where the run that is resumed stood."""
        if runner._resume:
            self.resumed_states = checkpoint.get(RANDOM_STATES, [])

    def before_train(self, runner: Runner) -> None:
        """Take up the random state of a resumed run, and its validation if that was cut off."""
        super().before_train(runner)
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
                                f'were not saved. {advice(Path(self.out_dir))}')
        if self.random_states:
            checkpoint[RANDOM_STATES] = self.random_states
        if 'param_schedulers' in checkpoint:
            checkpoint['param_schedulers'] = without_functions(checkpoint['param_schedulers'])

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Save the best checkpoint."""
        runner.message_hub.update_info('last_validation', steps_done(runner))
        if metrics:
            check_save_best(self.save_best, metrics)
        super().after_val_epoch(runner, metrics)
        self._flush()

    def save_interrupted(self, runner: Runner, iterations: int, into_epoch: int) -> None:
        """Save a checkpoint wherever the run stands, ``interrupted.pth``, which the next regular one outdates.

        Args:
            runner: of the run.
            iterations: that were done.
            into_epoch: how many of them belong to the epoch that is not finished.
        """
        self.random_states = all_gather_object(random_state())
        runner.save_checkpoint(self.out_dir, INTERRUPTED, backend_args=self.backend_args,
                               meta=dict(epoch=runner.epoch, iter=iterations, into_epoch=into_epoch))

    def _find_best_here(self, runner: Runner) -> None:
        """Look in the own folder for the best checkpoints that a resumed run names; those of a copied one are elsewhere.

        MMEngine would remove the original's when a better one is found.
        """
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
        self.random_states = all_gather_object(random_state())
        super()._save_checkpoint_with_step(runner, step, meta)
        self.random_states = None
        if self.is_local:
            self.file_backend.remove(Path(self.out_dir, INTERRUPTED))
        self._flush()

    def _flush(self) -> None:
        if self.is_local and is_main_process():
            self.file_backend.flush()


def without_functions(states: list[dict] | dict[str, list[dict]]) -> list[dict] | dict[str, list[dict]]:
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
    last = runner.max_iters if isinstance(loop, IterBasedTrainLoop) else runner.max_epochs
    return (runner.val_loop is not None and done >= max(1, loop.val_begin) and (done % loop.val_interval == 0 or done == last)
            and runner.message_hub.runtime_info.get('last_validation') != done)
