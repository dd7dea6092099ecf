"""The config that a run uses: the user's config, adapted to this machine and to the guarantees of this package."""
import copy
from collections.abc import Callable, Iterator

from mmengine.config import Config, ConfigDict
from mmengine.dist import get_world_size

from ..core.errors import UserError
from .hardware import fit_amp, fit_to_hardware
from .runner import make_durable
from .workers import limit_workers


def resolve_training(config: Config, adapt: Callable[[Config], None]) -> tuple[Config, list[str]]:
    """Connect the processes, and create the config with which they train.

    Args:
        config: config of the user; it is not changed.
        adapt: function that changes the settings that depend on the task.

    Returns:
        The adapted config, and sentences about the changes that the user should know; :func:`changes` lists all changes.

    Raises:
        UserError: the config does not match this machine, or the way in which the processes were started.
    """
    resolved = copy.deepcopy(config)
    adapt(resolved)
    fit_to_hardware(resolved)
    fit_batch(resolved)
    make_durable(resolved)
    return resolved, [*fit_amp(resolved), *limit_workers(resolved)]


def silent_visualizer(config: Config) -> ConfigDict:
    """Visualizer of a config without what writes files or logs to other programs."""
    visualizer = copy.deepcopy(config.get('visualizer') or ConfigDict(type='Visualizer'))
    visualizer.update(vis_backends=None)
    return visualizer


def passes_of(config: Config) -> int:
    """Number of passes whose gradients are accumulated before a step."""
    return config.optim_wrapper.get('accumulative_counts', 1)


def base_batch(config: Config) -> int | None:
    """Batch size for which the learning rate is chosen, in images per step; None if the config does not specify it."""
    return (config.get('auto_scale_lr') or {}).get('base_batch_size')


def fit_batch(config: Config) -> None:
    """Choose ``train_dataloader.batch_size`` if it is None.

    The batch size for which the learning rate is chosen is divided equally among the processes and, with
    ``optim_wrapper.accumulative_counts``, among the passes before a step.

    Raises:
        UserError: the batch size is None, and the config has no batch size to divide.
    """
    if config.train_dataloader.get('batch_size') is None:
        if not (base := base_batch(config)):
            raise UserError('the config has neither train_dataloader.batch_size nor auto_scale_lr.base_batch_size, which would '
                            'be shared out; set one of them')
        config.train_dataloader.batch_size = max(1, base // (passes_of(config) * get_world_size()))


def changes(before: Config, after: Config) -> list[str]:
    """Settings that differ between two configs, in the form ``KEY: BEFORE -> AFTER``."""
    return list(differences(before.to_dict(), after.to_dict(), ''))


def differences(before: object, after: object, place: str) -> Iterator[str]:
    """Like :func:`changes`, for the values of two configs under the same key; an absent key counts as None."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before | after:
            yield from differences(before.get(key), after.get(key), f'{place}.{key}' if place else str(key))
    elif isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after)):
            yield from differences(old, new, f'{place}.{index}')
    elif before != after:
        yield f'{place}: {before} -> {after}'
