"""Check ``--cfg-options``, and suggest the key that was most likely meant."""
import difflib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import Any

from mmengine import registry
from mmengine.config import Config
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ..core.errors import UserError
from ..engine.exported import is_exported
from ..engine.trained_model import is_fused

REGISTRIES = ('MODELS', 'DATASETS', 'TRANSFORMS', 'DATA_SAMPLERS', 'HOOKS', 'LOOPS', 'METRICS', 'OPTIMIZERS', 'OPTIM_WRAPPERS',
              'PARAM_SCHEDULERS', 'VISUALIZERS', 'VISBACKENDS', 'LOG_PROCESSORS')
# Keys that builders remove from a part of a config before they call its type.
OF_BUILDERS = {'type', '_delete_', '_scope_', 'init_cfg', 'priority', 'convert_to_iter_based', 'requires_grad', 'constructor',
               'paramwise_cfg', 'optimizer'}
# Top-level keys of a config that are not arguments of MMEngine's runner.
OF_RUNS = {'default_scope', 'distill', 'sync_bn', 'find_unused_parameters', 'model_wrapper_cfg', 'compile',
           'activation_checkpointing', 'efficient_conv_bn_eval', 'tta_model', 'tta_pipeline'}
# Top-level keys of a config that a run reads; others are helper variables of its file.
READ = {*inspect.signature(Runner.__init__).parameters, *OF_RUNS} - {'self', 'cfg'}
LOOP = {'type', 'by_epoch', 'max_epochs', 'max_iters', 'val_begin', 'val_interval', 'dynamic_intervals', 'fp16', '_delete_'}
SECTIONS = {
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
    'randomness': {'seed', 'diff_rank_seed', 'deterministic'},
    'distill': {'teacher', 'checkpoint', 'pixel_weight', 'channel_weight', 'temperature'},
    'auto_scale_lr': {'base_batch_size', 'enable'},
    **{f'{name}_dataloader': {*inspect.signature(DataLoader).parameters, 'num_batch_per_epoch', '_delete_'}
       for name in ('train', 'val', 'test')},
}
COUNTS = ('train_dataloader.batch_size', 'val_dataloader.batch_size', 'test_dataloader.batch_size', 'train_cfg.max_epochs',
          'train_cfg.max_iters', 'train_cfg.val_interval', 'optim_wrapper.accumulative_counts')


def check_options(config: Config, options: Mapping[str, object]) -> None:
    """Check keys and values before they are merged into a config.

    Args:
        config: config to be changed.
        options: values by dotted keys, as read from a command line.

    Raises:
        UserError: a key is not used by anything, an index is out of range, a key goes into a plain value, or a value has a
            different type than the one that it replaces.
    """
    for key, value in options.items():
        _check_is_read(config, key)
        _check_key(config, key, options)
        _check_value(config, key, value)


def check_model_options(checkpoint: str, options: Iterable[str]) -> None:
    """Check that no option changes the config's model where the checkpoint brings its own.

    Args:
        checkpoint: training checkpoint, folder of a fused model, or exported file.
        options: dotted keys of ``--cfg-options``.

    Raises:
        UserError: an option would have no effect.
    """
    exported = is_exported(checkpoint)
    if not exported and not is_fused(Path(checkpoint)):
        return
    for key in options:
        if key.split('.')[0] == 'model' and not (exported and key.startswith('model.test_cfg.')):  # The sliding window.
            raise UserError(f'--cfg-options {key} has no effect, because {checkpoint} brings its own model; leave it out, or '
                            'give the training checkpoint')


def _check_is_read(config: Config, key: str) -> None:
    """Check that a key is not a helper variable of the config file, such as ``max_epochs``."""
    variable = key.split('.')[0]
    if variable not in config or is_read(variable):
        return
    places = [path for path in paths(config) if is_read(path) and value_at(config, path) == config[variable]]
    if places:
        raise UserError(f'--cfg-options {key}: {variable} only helps to write the config, so changing it here has no effect; '
                        f'set {", ".join(places)}')


def is_read(key: str) -> bool:
    """Whether a runner reads what is under a dotted key of a config, unlike helper variables of its file."""
    return key.split('.')[0] in READ


def likely_misspelled(config: Config) -> Iterator[str]:
    """Find names in a config that nothing reads, though one that is read is almost the same.

    A config file may have variables of any name, which help to write it. So a name is only taken for a mistake if its value is
    nowhere in the rest of the config.

    Yields:
        Lines for the user.
    """
    candidates = READ - {'tta_pipeline'}  # Many configs have test_pipeline for test_dataloader.
    for key, value in config.items():
        similar = difflib.get_close_matches(key, candidates, 1, cutoff=0.85)
        if similar and not is_read(key) and not any(value_at(config, path) == value for path in paths(config) if is_read(path)):
            yield f'nothing reads {key}; did you mean {similar[0]}?'
    for place in ('env_cfg', 'auto_scale_lr'):  # Their other keys would be ignored silently.
        for key in (config.get(place) or {}).keys() - SECTIONS[place]:
            yield f'nothing reads {place}.{key}{nearest(config, f"{place}.{key}", place, SECTIONS[place])}'


def _check_key(config: Config, key: str, options: Mapping[str, object]) -> None:
    node, done = config, ''
    for part in key.split('.'):
        if isinstance(node, Mapping | Config):
            if part not in node:
                names = known_names(config, node, done, options)
                if names is not None and part not in names:
                    raise UserError(f'--cfg-options {key}: nothing reads {part} {f"in {done}" if done else "in a config"}'
                                    f'{nearest(config, key, done, names)}')
                return
            node = node[part]
        elif isinstance(node, Sequence) and not isinstance(node, str):
            if not (part.isdecimal() and int(part) < len(node)):
                raise UserError(f'--cfg-options {key}: {done} is a list of {len(node)}; expected an index from 0 to '
                                f'{len(node) - 1} after it, got {part}')
            node = node[int(part)]
        else:
            raise UserError(f'--cfg-options {key}: {done} is {node!r}, which has no keys; set {done} itself')
        done = f'{done}.{part}' if done else part


def _check_value(config: Config, key: str, value: object) -> None:
    present = value_at(config, key)
    if key in COUNTS and value is not None and not (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        raise UserError(f'--cfg-options {key}={value}: expected a whole number, 1 or more')
    if isinstance(present, bool) and not isinstance(value, int):
        raise UserError(f'--cfg-options {key}={value}: expected True or False')
    if isinstance(present, Number) and isinstance(value, str):
        raise UserError(f'--cfg-options {key}={value}: expected a number, as {present} in the config')
    if isinstance(present, Mapping) and ('type' in present or key in SECTIONS) and isinstance(value, str | Number):
        raise UserError(f'--cfg-options {key}={value}: {key} has keys ({", ".join(map(str, present))}); set one of them')


def value_at(config: Config, key: str) -> object:
    """Value of a config under a dotted key; None if there is none."""
    node: object = config
    for part in key.split('.'):
        if isinstance(node, list | tuple) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, Mapping | Config):
            node = node.get(part)
        else:
            return None
    return node


def known_names(config: Config, node: Mapping | Config, place: str, options: Mapping[str, object]) -> set[str] | None:
    """Keys that a part of a config can have; None if they are unknown."""
    if not place:
        return {*config, *READ}
    if place in SECTIONS:
        return SECTIONS[place]
    kind = options.get(f'{place}.type', node.get('type'))
    if place == 'optim_wrapper':
        kind = kind or 'OptimWrapper'
    names = arguments_of(kind, config.get('default_scope', 'mmseg')) if kind else None
    if place == 'optim_wrapper' and names:
        names |= {'loss_scale', 'dtype'}  # With --amp.
    return names and (names | LOOP if place in ('train_cfg', 'val_cfg', 'test_cfg') else names)


def arguments_of(kind: object, scope: str) -> set[str] | None:
    """Names of the arguments of a registered type; None if it accepts any argument or is unknown."""
    found = {kind} if callable(kind) else set()
    for name in REGISTRIES if isinstance(kind, str) else ():
        with getattr(registry, name).switch_scope_and_registry(scope) as inner:
            if (registered := inner.get(kind)) is not None:
                found.add(registered)
    names: set[str] = set()
    for each in found:
        taken = _parameters(each)
        if taken is None:
            return None
        names |= taken
    return names | OF_BUILDERS if found else None


def _parameters(kind: Any) -> set[str] | None:
    """Parameters of a function, or of a class and of those base classes to which it passes further keywords."""
    names: set[str] = set()
    for each in kind.__mro__ if isinstance(kind, type) else [kind]:
        if isinstance(kind, type) and '__init__' not in vars(each):
            continue
        parameters = inspect.signature(vars(each)['__init__'] if isinstance(kind, type) else each).parameters.values()
        names |= {parameter.name for parameter in parameters} - {'self'}
        if each is object or not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return names if each is not object else None
    return None


def nearest(config: Config, key: str, place: str, names: set[str]) -> str:
    """Ask whether a similar key was meant; empty if no key is similar.

    Args:
        config: config whose keys are compared, using as many of their last parts as the key has.
        key: unknown key.
        place: part of the config in which the key is unknown.
        names: names that this part accepts.
    """
    parts = key.split('.')
    depth = place.count('.') + 1 if place else 0
    siblings = [f'{place}.{name}' if place else name for name in sorted(names) if not name.startswith('_')]
    scored = []
    for candidate in (name for name in [*siblings, *paths(config)] if not f'{key}.'.startswith(f'{name}.')):
        ending = '.'.join(candidate.split('.')[-len(parts):])
        likeness = difflib.SequenceMatcher(None, key if candidate not in siblings else '.'.join(parts[:depth + 1]),
                                           ending if candidate not in siblings else candidate).ratio()
        scored.append((likeness, candidate.startswith('train'), candidate))
    likeness, _, found = max(scored, key=lambda entry: entry[:2])
    return f'; did you mean {found}?' if likeness > 0.7 else ''


def paths(node: object, prefix: str = '') -> Iterator[str]:
    """Iterate over the dotted keys of a config."""
    items = node.items() if isinstance(node, Mapping | Config) else enumerate(node) if isinstance(node, list | tuple) else ()
    for name, inner in items:
        yield f'{prefix}{name}'
        yield from paths(inner, f'{prefix}{name}.')
