"""Finding the weights in checkpoints of other programs, and checking that they are valid."""
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core.command_names import command
from ..core.errors import CheckpointError, some
from ..core.logs import print_log

# Keys under which training programs store weights, in search order; then the keys of averaged weights.
WEIGHTS_KEYS = ('state_dict', 'model', 'model_state', 'model_state_dict', 'net', 'network', 'weights', 'params', 'module')
AVERAGED_KEYS = ('state_dict_ema', 'model_ema', 'ema', 'ema_state_dict', 'ema_model', 'ema_model_state_dict', 'params_ema')
MAX_DEPTH = 4  # Maximum nesting depth of such keys; a pickle can contain itself.
MAX_REPEATED = 2**20  # Maximum number of elements of a tensor that repeats a few stored elements.
COUNTERS = ('steps', 'n_averaged')  # Counters stored beside averaged models.
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def state_dict_of(checkpoint: Mapping, source: str | Path, key: str | None = None) -> dict[str, Tensor]:
    """Extract the weights of a checkpoint, bare or under one of the usual keys, stripping the name prefixes of wrappers.

    If the checkpoint also holds other weights, such as averaged ones (EMA) or those of a teacher, the log names both.

    Args:
        checkpoint: content of the checkpoint.
        source: origin of the checkpoint, for messages.
        key: key of the weights; common keys are detected automatically.

    Raises:
        CheckpointError: it holds no tensors, or the tensors are not weights.
    """
    inside = checkpoint
    if key is not None:
        named = checkpoint.get(key)
        if not isinstance(named, Mapping):
            raise CheckpointError(f'checkpoint {source} has no weights under the key {key!r}; its keys are {some(checkpoint)}')
        inside = named
    for _ in range(MAX_DEPTH):
        below = next(iter(_weights_keys(inside)), None)
        if below is None:
            break
        inside = inside[below]
    # An unpickled tensor can have arbitrary attributes, even in place of methods; a detached one has none.
    state = {name: Tensor.detach(value) for name, value in inside.items()
             if isinstance(name, str) and isinstance(value, Tensor)}
    if not state:
        if key is None and (places := _places_of_tensors(checkpoint)):
            raise CheckpointError(f'checkpoint {source} has no weights under a usual key, but tensors under '
                                  f'{some(map(repr, places))}; say which, as the key of load_pretrained or of init_cfg, or '
                                  f'with {command("convert-weights")} --key')
        arrays = any(isinstance(value, np.ndarray) for value in inside.values())
        raise CheckpointError(f'checkpoint {source} holds ' + ('NumPy arrays instead of tensors' if arrays else 'no weights')
                              + f'; its keys are {some(inside) or "none"}')
    check_form(state, source)
    state = _unwrapped(state)
    if key is None:
        _log_choice(checkpoint, state, source)
    return state


def check_form(state: Mapping[str, Tensor], source: str | Path) -> None:
    """Check that tensors are ordinary dense ones.

    Raises:
        CheckpointError: some tensors are quantized, sparse, nested or without values.
    """
    forms: dict[str, Callable[[Tensor], bool]] = {
        'quantized': lambda value: value.is_quantized,
        'nested': lambda value: value.is_nested,
        'sparse': lambda value: value.layout != torch.strided,
        'without values (on the device meta)': lambda value: value.is_meta,
        'far larger than what is stored of them': lambda value: value.numel() > max(
            MAX_REPEATED, value.untyped_storage().nbytes() / value.element_size())}
    for form, has in forms.items():  # In this order: each check requires that the previous ones are false.
        _refuse(source, form, (name for name, value in state.items() if has(value)),
                'expected plain floating-point weights, from before that was done to them')


def check_values(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str | Path) -> None:
    """Check that tensors with the right names and shapes can be a model's weights.

    Raises:
        CheckpointError: some tensors should be floating-point but are not, or some values are not finite.
    """
    for name in wanted:
        dtype, fits = state[name].dtype, FLOATS if wanted[name].is_floating_point() else (*FLOATS, torch.int64, torch.int32)
        if dtype not in fits:
            _refuse(source, f'of the type {str(dtype).removeprefix("torch.")}',
                    (name for name in wanted if state[name].dtype == dtype), 'expected floating-point weights')
    _refuse(source, 'not finite (NaN or infinite)',
            not_finite({name: state[name].to(wanted[name].dtype) for name in wanted}),  # May not fit that dtype.
            'its training diverged: take a checkpoint from before that')
    _refuse(source, 'variances below 0', (name for name in wanted if name.endswith('running_var') and (state[name] < 0).any()),
            'it is damaged: take another checkpoint')


def not_finite(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that contain an infinite value or NaN."""
    return [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]


def prefixes_of(names: Iterable[str], known: Callable[[str], bool]) -> Counter[str]:
    """Count the prefixes that precede known names, such as ``backbone.`` or the empty string.

    Args:
        names: tensor names.
        known: predicate that says whether a name, or the part of one after a dot, is known.
    """
    found: Counter[str] = Counter()
    for name in names:
        starts = (0, *(match.end() for match in re.finditer(r'\.', name)))
        start = next((start for start in starts if known(name[start:])), None)
        if start is not None:
            found[name[:start]] += 1
    return found


def part_of(state: Mapping[str, Tensor], prefix: str, source: str | Path) -> dict[str, Tensor]:
    """Select the weights whose names start with a prefix such as ``backbone.``, and strip it.

    Raises:
        CheckpointError: no name has the prefix.
    """
    part = {name[len(prefix):]: value for name, value in state.items() if name.startswith(prefix)}
    if not part:
        shared = os.path.commonprefix([*state]).rpartition('.')
        start = len(''.join(shared[:2]))
        starts = dict.fromkeys(name[:start] + ''.join(name[start:].partition('.')[:2]) for name in state)
        raise CheckpointError(f'checkpoint {source} has no key that starts with {prefix!r}; its keys start with '
                              f'{some(map(repr, starts))}; give one of these as the prefix, or none')
    return part


def _refuse(source: str | Path, what: str, names: Iterable[str], remedy: str) -> None:
    if names := list(names):
        raise CheckpointError(f'checkpoint {source} holds {len(names)} tensors that are {what}: {some(names)}; {remedy}')


def _weights_keys(checkpoint: Mapping) -> Sequence[str]:
    """Keys that hold weights, or may hold them, in order of preference."""
    return [key for key in (*WEIGHTS_KEYS, *AVERAGED_KEYS) if isinstance(checkpoint.get(key), Mapping) and checkpoint[key]]


def _places_of_tensors(checkpoint: Mapping, known: Callable[[str], bool] = lambda name: True, count: int = 1) -> list[str]:
    """Top-level keys that hold tensors, directly or up to a few levels deeper.

    Args:
        checkpoint: content of the checkpoint.
        known: predicate that says whether a name, or the part of one after a dot, counts.
        count: minimum number of such tensors in one mapping.
    """
    def holds(part: object, depth: int) -> bool:
        if not isinstance(part, Mapping):
            return False
        names = [name for name, value in part.items() if isinstance(name, str) and isinstance(value, Tensor)]
        return (sum(prefixes_of(names, known).values()) >= count
                or depth > 0 and any(holds(value, depth - 1) for value in part.values()))

    return [key for key, value in checkpoint.items() if holds(value, MAX_DEPTH)]


def _log_choice(checkpoint: Mapping, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Log the other top-level keys that hold at least half as many tensors of the same names as the selected weights."""
    taken = next(iter(_weights_keys(checkpoint)), None)
    ends = {name[match.end():] for name in state for match in re.finditer(r'^|\.', name)}
    known = {name for name in ends if '.' in name} | state.keys()
    places = _places_of_tensors(checkpoint, known.__contains__, (len(state) + 1) // 2)
    if others := [key for key in places if key != taken]:
        swapped = taken == 'state_dict' and others == ['ema_state_dict']
        where = 'at the top' if taken is None else f'under {taken!r}'
        print_log(f'Of {source} the weights {where} are taken, not those under {some(map(repr, others))}'
                  + (" (MMEngine's EMAHook saves the averaged weights under the former, the raw ones under the latter)"
                     if swapped else '')
                  + f'; to take others, give load_pretrained a key, or init_cfg, or {command("convert-weights")} --key',
                  logger='current')


def _unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Strip the name prefixes that DataParallel, weight averaging and torch.compile add."""
    state = {name.replace('_orig_mod.', ''): value for name, value in state.items()}
    while all(name.startswith('module.') or name in COUNTERS for name in state) and not state.keys() <= {*COUNTERS}:
        state = {name[len('module.'):]: value for name, value in state.items() if name not in COUNTERS}
    return state
