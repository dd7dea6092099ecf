"""Train a model, after checking for everything that can be known to go wrong."""
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import barrier, get_world_size
from mmengine.model import is_model_wrapper
from torch import nn
from torch.utils.data import DataLoader

from ..core.config_types import type_name
from ..core.errors import InstallationError, TrainingError, UserError
from ..core.files import identity
from ..core.run_checkpoints import BEST, find_checkpoint
from ..models.pretrained import pretrained_config
from ..models.weights import part_of
from .checkpointing import CheckpointHook
from .classes import check_same_classes, trained_classes
from .live_line import LiveLineHook
from .locking import locked
from .metrics import check_save_best, given_by
from .resolved_config import base_batch, changes, passes_of, resolve_training
from .resuming import INTERRUPTED, advice, checkpoint_folder, find_what_to_resume, fresh_start
from .runner import Runner
from .safe_loading import load_from_repvgg_seg
from .stopping import StopHook
from .workers import lost_worker

# Relative tolerance of the batch size and of the iterations per epoch: a batch of 256 images may not divide evenly.
RESUMPTION_TOLERANCE = 0.01
# Package that each of MMEngine's visualization backends needs.
LOGGERS = {'TensorboardVisBackend': 'tensorboard', 'WandbVisBackend': 'wandb', 'MLflowVisBackend': 'mlflow',
           'ClearMLVisBackend': 'clearml', 'NeptuneVisBackend': 'neptune', 'DVCLiveVisBackend': 'dvclive',
           'AimVisBackend': 'aim'}
Check = Callable[[nn.Module, Sequence[DataLoader], Config], None]


def train(given: Config, check: Check, adapt: Callable[[Config], None] = lambda config: None) -> Path | None:
    """Train a model.

    Args:
        given: full config, including ``work_dir``; it is not modified.
        check: function that is called before training with the model, the data loaders of the training set and (if present)
            the validation set, and the config; it raises UserError if they do not match.
        adapt: function that makes task-specific changes to a copy of the config.

    Returns:
        Path of the best checkpoint, or of the last one if none was evaluated. None in a process that has no access to the main
        process's files.

    Raises:
        UserError: the data, weights, classes, and batch size do not match; nothing was trained.
        TrainingError: the loss or the weights are no longer finite; earlier checkpoints are preserved.
        Interruption: a signal requested a stop; a checkpoint was written.
    """
    config, warnings = resolve_training(given, adapt)
    folder = checkpoint_folder(config)
    with ExitStack() as locks:
        for place in {place.resolve(): place for place in (Path(config.work_dir), folder)}.values():
            locks.enter_context(locked(place))
        runner = prepare(given, config, warnings, check)
        run(runner)
    barrier()  # The main process writes the checkpoints.
    return find_checkpoint(folder)


def prepare(given: Config, config: Config, warnings: Sequence[str], check: Check,
            build: Callable[[Config], Runner] | None = None) -> Runner:
    """Build a runner, with everything checked that can be checked before training.

    Args:
        given: config as given by the user, for the log.
        config: resolved config; what to resume from is filled in.
        warnings: what the user should know about the resolved config.
        check: see :func:`train`.
        build: function that builds the runner.

    Raises:
        UserError: the data, weights, classes, and batch size do not match.
    """
    resumed, number, notes = find_what_to_resume(config)
    check_starting_points(config, checkpoint_folder(config))
    check_prefixes(config.model)
    check_loggers(config)
    runner = (build or Runner.from_cfg)(config)
    if base := base_batch(config):
        # MMEngine's scaling ignores gradient accumulation: it compares the base batch with the batch of one pass.
        runner.auto_scale_lr = dict(config.auto_scale_lr, base_batch_size=base / passes_of(config))
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    # Accessing the loops opens the datasets, so that a broken validation set is reported now, not after the first epoch.
    loaders = [runner.train_loop.dataloader]
    if runner.val_loop is not None:
        loaders.append(runner.val_loop.dataloader)
        check_metrics(runner)
    if len(loaders[0]) == 0:
        raise UserError(f'the training set has {len(loaders[0].sampler)} images a process, less than one batch of '
                        f'{loaders[0].batch_size}; add images or set train_dataloader.batch_size')
    check(model, loaders, config)
    for note in [*notes, *warnings]:
        runner.logger.warning(note)
    runner.logger.info(f'Settings that were changed for this run: {"; ".join(changes(given, config))}')
    runner.record = dict(run=number, data=data_of(loaders[0]))
    if resumed:
        check_resumption(config.load_from, resumed, runner.record['data'])
        check_length(config.load_from, resumed['iter'], runner.max_iters)
        check_same_classes(f'checkpoint {config.load_from}', trained_classes(resumed), 'the training set',
                           getattr(loaders[0].dataset, 'metainfo', {}).get('classes') or (),
                           f'resume with the same training set, or {fresh_start(config.load_from)}')
    log_effective_batch(runner, loaders[0])
    return runner


def check_starting_points(config: Config, folder: Path) -> None:
    """Check that training cannot overwrite the weights that it starts from with one of its checkpoints.

    Args:
        config: full config.
        folder: folder for the checkpoints.

    Raises:
        UserError: the initial weights are in ``folder`` under a name that a checkpoint may get.
    """
    hook = (config.get('default_hooks') or {}).get('checkpoint') or {}
    template = hook.get('filename_tmpl') or INTERRUPTED
    names = ['epoch_*.pth', 'iter_*.pth', f'{BEST}*', INTERRUPTED, template.replace('{}', '*')]
    starting_points = [path for _, init_cfg in pretrained(config.model) for path in paths_in(init_cfg)]
    if config.get('load_from') and not config.resume:
        starting_points.append(config.load_from)
    if config.get('distill'):
        starting_points.append(str(config.distill.checkpoint))
    for path in map(os.path.realpath, starting_points):
        if identity(os.path.dirname(path)) == identity(folder) and any(fnmatch(os.path.basename(path), name) for name in names):
            raise UserError(f'training starts from {path}, but can write a checkpoint of that name itself; choose another '
                            '--work-dir, or copy the file to another folder')


def check_prefixes(model: Mapping) -> None:
    """Check that every checkpoint that an ``init_cfg`` refers to has weights under the ``prefix`` of that ``init_cfg``.

    RepVGG checks this itself; for all other parts of a model, MMEngine only has an assertion.

    Raises:
        CheckpointError: a checkpoint has no such weights, or cannot be read.
    """
    for name, init_cfg in pretrained(model):
        if name != 'RepVGG' and (prefix := init_cfg.get('prefix')) is not None:
            path = init_cfg['checkpoint']
            part_of(load_from_repvgg_seg(path)['state_dict'], f'{prefix.removesuffix(".")}.', path)


def check_loggers(config: Config) -> None:
    """Check that the packages that a training logs to are installed; MMEngine imports them only after it has begun.

    Raises:
        InstallationError: one is missing.
    """
    backends = (config.get('visualizer') or {}).get('vis_backends') or []
    for backend in [backends] if isinstance(backends, Mapping) else backends:
        package = LOGGERS.get(name := type_name(backend))
        if package and find_spec(package) is None:
            raise InstallationError(f'{package} is not installed, but {name} in visualizer.vis_backends needs it; run: pip '
                                    f'install {package}')


def paths_in(init_cfg: Mapping) -> list[str]:
    """The checkpoint of an ``init_cfg`` as a list, or its list of checkpoints, of which the first one that exists is used."""
    checkpoint = init_cfg['checkpoint']
    return list(map(str, [checkpoint] if isinstance(checkpoint, (str, Path)) else checkpoint))


def pretrained(part: object) -> Iterator[tuple[str, Mapping]]:
    """Yield the parts of a model's config that start from a checkpoint: the name of the type, and its ``init_cfg``."""
    if isinstance(part, Mapping):
        if init_cfg := pretrained_config(part.get('init_cfg')):
            yield type_name(part), init_cfg
        for value in part.values():
            yield from pretrained(value)
    elif isinstance(part, (list, tuple)):
        for value in part:
            yield from pretrained(value)


def outcome(checkpoint: Path | None, written: Iterable[Path | None] = ()) -> str:
    """Final message of a training command.

    Args:
        checkpoint: what :func:`train` returned.
        written: other files that the command wrote; None for those that it did not.
    """
    trained = 'Trained; no checkpoint was saved'
    if checkpoint is not None:
        trained = f'Trained; the {"best" if checkpoint.name.startswith(BEST) else "last"} checkpoint is {checkpoint}'
    files = [str(path) for path in written if path is not None]
    return '\n'.join([*([f'Wrote {" and ".join(files)}'] if files else []), trained])


def run(runner: Runner) -> None:
    """Train. If data loader workers exit because they received the same stop signal as this process, treat it as the stop."""
    stopper = next(hook for hook in runner.hooks if isinstance(hook, StopHook))
    try:
        runner.train()
    except (RuntimeError, EOFError, ConnectionError) as error:  # The last two: a worker exited while sending a batch.
        # A process that others wait for cannot save alone, and during an iteration no process can save.
        alone = get_world_size() == 1 and not stopper.in_iteration
        if stopper.received is not None and alone:
            stopper.stop(runner, runner.iter)
        if (lost := lost_worker(error)) is None:
            raise
        left = stopper.save(runner, runner.iter) if alone else advice(checkpoint_folder(runner.cfg))
        raise TrainingError(f'{lost}. {left[0].upper()}{left[1:]}') from None
    finally:
        stopper.restore_handlers()
        for hook in runner.hooks:
            if isinstance(hook, LiveLineHook):
                hook.close()


def data_of(loader: DataLoader) -> dict[str, int]:
    """Data settings that must not change when a run is resumed: the size of the training set, and the batch size and
    iterations per epoch over all processes."""
    dataset: Any = loader.dataset
    return dict(images=len(dataset), batch=loader.batch_size * get_world_size(), iterations=len(loader))


def check_resumption(checkpoint: str, meta: Mapping, now: Mapping[str, int]) -> None:
    """Check that the checkpoint to resume from was trained with the same amount of data.

    A checkpoint contains the learning rates, the iteration counts of the schedules, and the position in the epoch. With a
    different batch size, schedules would end too early or too late, and images would be skipped.

    Args:
        checkpoint: name of the checkpoint.
        meta: ``meta`` of the checkpoint.
        now: current data settings, as returned by :func:`data_of`.

    Raises:
        UserError: the amount of data differs.
    """
    before = meta.get('data')
    if before is None:  # MMEngine and earlier versions of this package do not record it.
        if not meta.get('epoch'):
            return
        before = dict(now, iterations=(meta['iter'] - meta.get('into_epoch', 0)) / meta['epoch'])
    if before['images'] != now['images'] or any(
            abs(before[key] - now[key]) > RESUMPTION_TOLERANCE * now[key] for key in ('batch', 'iterations')):
        form = '{iterations:g} iterations per epoch ({images} images, {batch} per iteration)'
        raise UserError(f'{checkpoint} was trained with {form.format(**before)}, resuming it would take {form.format(**now)}; '
                        'resume with the same training set and as many images per iteration as before '
                        f'(train_dataloader.batch_size times the number of processes), or {fresh_start(checkpoint)}')


def check_length(checkpoint: str, done: int, planned: int) -> None:
    """Check that a checkpoint was not trained for longer than the config specifies.

    Args:
        checkpoint: name of the checkpoint to resume from.
        done: number of iterations that the checkpoint was trained for.
        planned: number of iterations in the config.

    Raises:
        UserError: the config ends before the iteration of the checkpoint.
    """
    if done > planned:
        raise UserError(f'{checkpoint} was trained for {done} iterations, the config ends after {planned}; raise '
                        'train_cfg.max_epochs or max_iters, or use the checkpoint as it is')


def check_metrics(runner: Runner) -> None:
    """Check that validation computes the metrics that the best checkpoint is chosen by, if its metrics are known in advance.

    Raises:
        UserError: validation does not compute one of these metrics.
    """
    given = given_by(runner.val_loop.evaluator)
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and given is not None:
            check_save_best(hook.save_best, given)


def log_effective_batch(runner: Runner, loader: DataLoader) -> None:
    """Log the number of images per step over all processes, and how the learning rate is scaled for it."""
    passes = passes_of(runner.cfg)
    batch, processes = loader.batch_size, get_world_size()
    images = batch * processes * passes
    message = f'Effective batch: {batch} images x {processes} process(es)'
    if passes > 1:
        message += f' x {passes} passes'
    message += f' = {images} images a step'
    scale = runner.cfg.get('auto_scale_lr') or {}
    if scale.get('enable'):
        base = scale['base_batch_size']
        message += f'; learning rate x {images / base:g} (the config is for {base})'
    runner.logger.info(message)
