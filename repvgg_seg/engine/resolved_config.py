"""The config that a run really uses: the user's, changed for this machine and for what this package promises."""
import copy
from collections.abc import Callable, Iterator

from mmengine.config import Config
from mmengine.dist import get_world_size

from ..core.errors import UserError
from .hardware import fit_amp, fit_to_hardware
from .runner import make_durable
from .workers import limit_workers


def resolve_training(config: Config, adapt: Callable[[Config], None]) -> tuple[Config, list[str]]:
    """Connect the processes and make the config that they train with.

    Args:
        config: the user's; it stays as it is.
        adapt: changes what depends on the task.

    Returns:
        The changed config, and what the user should know about the changes, in words; :func:`changes` lists them all.

    Raises:
        UserError: the config does not fit this machine, or how the processes were started.
    """
    resolved = copy.deepcopy(config)
    adapt(resolved)
    fit_to_hardware(resolved)
    fit_batch(resolved)
    make_durable(resolved)
    return resolved, [*fit_amp(resolved), *limit_workers(resolved)]


def passes_of(config: Config) -> int:
    """Passes whose gradients add up before a step."""
    return config.optim_wrapper.get('accumulative_counts', 1)


def base_batch(config: Config) -> int | None:
    """The batch that the learning rate is for, in images a step; None where the config does not say."""
    return (config.get('auto_scale_lr') or {}).get('base_batch_size')


def fit_batch(config: Config) -> None:
    """Fill in an open ``train_dataloader.batch_size`` (None).

    It becomes an equal share of the batch that the learning rate is for, over the processes and, with
    ``optim_wrapper.accumulative_counts``, over the passes before a step.

    Raises:
        UserError: the batch size is open and there is nothing to share out.
    """
    if config.train_dataloader.get('batch_size') is None:
        if not (base := base_batch(config)):
            raise UserError('the config has neither train_dataloader.batch_size nor auto_scale_lr.base_batch_size, which would '
                            'be shared out; set one of them')
        config.train_dataloader.batch_size = max(1, base // (passes_of(config) * get_world_size()))


def changes(before: Config, after: Config) -> list[str]:
    """The settings that differ between two configs, in words: ``KEY: BEFORE -> AFTER``."""
    return list(differences(before.to_dict(), after.to_dict(), ''))


def differences(before: object, after: object, place: str) -> Iterator[str]:
    """As :func:`changes`, for the values of two configs under one key; a key that is absent counts as None."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before | after:
            yield from differences(before.get(key), after.get(key), f'{place}.{key}' if place else str(key))
    elif isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after)):
            yield from differences(old, new, f'{place}.{index}')
    elif before != after:
        yield f'{place}: {before} -> {after}'
