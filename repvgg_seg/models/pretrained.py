"""Loading checkpoints completely or not at all."""
import io
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..core.command_names import command
from ..core.config_types import type_name
from ..core.errors import ArgumentTypeError, CheckpointError, some
from ..core.files import write_atomically
from ..core.logs import print_log
from ..core.reading import is_remote, read_checkpoint
from ..core.run_checkpoints import find_checkpoint
from .inflation import inflate_stem
from .layouts import LAYOUTS, Layout, describe_arch, to_own_layout
from .reparam import LinearPart
from .weights import check_values, part_of, prefixes_of, state_dict_of

CLASSIFYING = r'(conv_seg|head\.fc)\.(weight|bias)$'  # Layers with one output per class.


def load_model(model: nn.Module, source: str | Path) -> dict:
    """Load a whole model strictly.

    Args:
        model: e.g. a segmentor, in the same form (training or fused) as the checkpoint.
        source: path or URL of the checkpoint.

    Returns:
        The checkpoint's ``meta``, or an empty dict.

    Raises:
        CheckpointError: the checkpoint is unreadable, or any key or shape differs; nothing was loaded.
    """
    checkpoint = read_checkpoint(source)
    load_model_state(model, checkpoint, source)
    meta = checkpoint.get('meta')
    return dict(meta) if isinstance(meta, Mapping) else {}


def load_model_state(model: nn.Module, checkpoint: Mapping, source: str | Path) -> None:
    """Load a whole model strictly from a checkpoint that :func:`read_checkpoint` read from ``source``.

    Raises:
        CheckpointError: any key or shape differs; nothing was loaded.
    """
    _load_strictly(model, state_dict_of(checkpoint, source), source)


def load_beginning(model: nn.Module, checkpoint: Mapping, source: str | Path) -> None:
    """Load a whole model for further training; classifying layers keep their weights if the number of classes differs.

    The stem is adapted to another number of image channels, see :func:`repvgg_seg.models.inflation.inflate_stem`.

    Args:
        model: a segmentor or classifier.
        checkpoint: checkpoint that :func:`read_checkpoint` returned.
        source: origin of the checkpoint, for messages.

    Raises:
        CheckpointError: any key, or any other shape, differs; nothing was loaded.
    """
    state, wanted = state_dict_of(checkpoint, source), model.state_dict()
    others = [key for key in state if re.search(CLASSIFYING, key) and key in wanted and state[key].shape != wanted[key].shape
              and state[key].dim() == wanted[key].dim()]
    for key in others:
        print_log(f'{key} of {source} is for {len(state[key])} classes, the model has {len(wanted[key])}: it starts from '
                  'scratch', logger='current', level=logging.WARNING)
    state = inflate_stem(state, wanted, source)
    _load_strictly(model, {**state, **{key: wanted[key] for key in others}}, source)


def load_pretrained(backbone: nn.Module, source: str | Path | Sequence[str | Path], prefix: str | None = None,
                    key: str | None = None) -> None:
    """Load a backbone from a checkpoint in the official, MMPretrain's, timm's or our own layout.

    Weights of classifiers and heads beside the backbone are left out; everything else must match, except that weights for RGB
    images are adapted to another number of channels (:func:`repvgg_seg.models.inflation.inflate_stem`).

    Args:
        backbone: a :class:`~repvgg_seg.models.RepVGG`, in training or in fused form.
        source: path or URL; or several, of which the first that exists is used. For a folder, its best checkpoint is used, or
            else its last one.
        prefix: prefix of the backbone's tensor names, as in MMEngine's ``Pretrained``; detected automatically if the file holds
            one RepVGG, or one under ``backbone.``.
        key: key of the weights in the checkpoint, e.g. ``'model_ema'`` for averaged ones; common keys are detected
            automatically.

    Raises:
        CheckpointError: the checkpoint is unreadable, of another architecture or in the other form (training or fused), or it
            differs in any other way; nothing was loaded.
    """
    path, checkpoint = _first_available([source] if isinstance(source, (str, Path)) else list(source))
    found = backbone_of(state_dict_of(checkpoint, path, key), path, prefix)
    weights, wanted = dict(found.weights), backbone.state_dict()
    if found.fused != backbone.deploy:
        if backbone.deploy:
            raise CheckpointError(f'checkpoint {path} is in training form, but the backbone has deploy=True; build it with '
                                  'deploy=False, load, then call switch_to_deploy()')
        raise CheckpointError(f'checkpoint {path} holds fused weights, which cannot be trained further; use the checkpoint '
                              'from before fusing')
    # Old PyTorch did not save this counter, which only matters for norms with momentum=None.
    for name in wanted:
        if name.endswith('.num_batches_tracked') and name not in weights:
            weights[name] = wanted[name]
    arch, expected = describe_arch(weights), describe_arch(wanted)
    if arch and arch != expected:
        raise CheckpointError(f'checkpoint {path} holds {arch}, but the backbone is {expected}; '
                              'choose the checkpoint or the arch to fit')
    _load_strictly(backbone, inflate_stem(weights, wanted, path), path)
    print_log(f'Loaded {len(weights)} of {len(wanted)} backbone tensors from {path} ({found.layout.name} layout)'
              + (f'; not used: {some(found.beside)}' if found.beside else ''), logger='current')


@dataclass(frozen=True)
class FoundBackbone:
    """A RepVGG among the weights of a checkpoint.

    Args:
        weights: weights by our names; names that the layout does not know are unchanged.
        beside: tensors outside the backbone, such as a classifier, by name without the prefix of any whole-model wrapper.
        layout: layout of the checkpoint.
        fused: whether the weights are in fused form.
    """
    weights: dict[str, Tensor]
    beside: dict[str, Tensor]
    layout: Layout
    fused: bool


def backbone_of(state: Mapping[str, Tensor], source: str | Path, prefix: str | None = None) -> FoundBackbone:
    """Find the weights of a RepVGG in those of a backbone, classifier or segmentor, wrapped or not, in any layout.

    Args:
        state: weights by name.
        source: origin of the weights, for messages.
        prefix: prefix of the backbone's tensor names; detected automatically if there is one RepVGG, or one under
            ``backbone.``.

    Raises:
        CheckpointError: nothing has the prefix, nothing belongs to a RepVGG, or there are several RepVGGs.
    """
    if not prefix:
        prefix = _find_prefix(state, source)
    elif not prefix.endswith('.'):
        prefix += '.'
    inside = part_of(state, prefix, source)
    weights, heads, layout = to_own_layout(inside)
    if layout is None:
        raise CheckpointError(f'checkpoint {source} is not a RepVGG in the layout of {", ".join(LAYOUTS)}; its keys are '
                              f'{some(inside)}')
    beside = {_without_wrapper(key, prefix): value for key, value in state.items()
              if not key.startswith(prefix) or key[len(prefix):] in heads}
    return FoundBackbone(weights, beside, layout, layout.is_fused(inside))


def _find_prefix(state: Mapping[str, Tensor], source: str | Path) -> str:
    found = prefixes_of(state, lambda name: any(layout.to_own(name) for layout in LAYOUTS.values()))
    whole = [prefix for prefix, count in found.items() if 2 * count > max(found.values())]
    if len(whole) < 2:
        return ''.join(whole)
    if 'backbone.' in whole:
        return 'backbone.'
    raise CheckpointError(f'checkpoint {source} holds more than one RepVGG; choose one by prefix: '
                          f'{", ".join(map(repr, whole))}')


def _without_wrapper(key: str, prefix: str) -> str:
    """Strip a whole-model wrapper from a key: if the backbone's prefix is model.backbone., model.head becomes head."""
    wrapper = prefix
    while not key.startswith(wrapper):
        wrapper = ''.join(wrapper[:-1].rpartition('.')[:2])
    return key[len(wrapper):]


def pretrained_config(init_cfg: Mapping | Sequence[Mapping] | None) -> Mapping | None:
    """Find the ``dict(type='Pretrained', checkpoint=...)`` in an ``init_cfg``; None if it has none.

    Raises:
        ArgumentTypeError: the dict has no ``checkpoint``.
    """
    configs = [init_cfg] if isinstance(init_cfg, Mapping) else list(init_cfg or [])
    for config in configs:
        if type_name(config) in ('Pretrained', 'PretrainedInit'):
            if not config.get('checkpoint'):
                raise ArgumentTypeError(f'init_cfg of type Pretrained needs a checkpoint, got {dict(config)}; '
                                        'for random weights use init_cfg=None')
            return config
    return None


def write_checkpoint(content: Mapping, path: Path) -> None:
    """Write a checkpoint atomically: an interruption leaves the previous file, or none.

    The same content gives the same bytes, regardless of the file name.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(buffer.getbuffer(), path)


def _first_available(sources: list[str | Path]) -> tuple[str, Mapping]:
    reasons = []
    for source in sources:
        path = _existing(source)
        if path is None:
            reasons.append(f'{source} does not exist')
            continue
        try:
            return path, read_checkpoint(path)
        except CheckpointError as error:
            if not is_remote(source):
                raise
            reasons.append(str(error))
    raise CheckpointError(f'no pretrained weights: {"; ".join(reasons)}; give a file with --cfg-options '
                          'model.backbone.init_cfg.checkpoint=PATH, or train from scratch with model.backbone.init_cfg=None')


def _existing(source: str | Path) -> str | None:
    """Return a URL unchanged, or the path of an existing file; for a folder, the path of a checkpoint in it."""
    if is_remote(source):
        return str(source)
    try:
        path = Path(source).expanduser()
        found = find_checkpoint(path) if path.is_dir() else path
        return str(found) if found is not None and found.exists() else None
    except (OSError, RuntimeError):  # The name is impossible, or ~user names an unknown user.
        return None


def _load_strictly(model: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    wanted = model.state_dict()
    prefix = next(iter(prefixes_of(state, wanted.__contains__).most_common(1)), ("", 0))[0]  # Such as Lightning's "model.".
    state = _by_names_of(wanted, {key.removeprefix(prefix): value for key, value in state.items()})
    neutral = {f'{name}.{key}': value for name, part in model.named_modules() if isinstance(part, LinearPart)
               for key, value in part.neutral_weights().items()}
    if not neutral.keys() & state.keys():  # Of a model that was trained without these parts; some of them would be too few.
        state = {**state, **neutral}
    if parts := differences(state, wanted):
        found, expected = describe_arch(state, 'backbone.'), describe_arch(wanted, 'backbone.')
        _, _, layout = to_own_layout({key.removeprefix('backbone.'): value for key, value in state.items()})
        reason, remedy = '', 'use the config it was trained with'
        if layout is not None and layout.name != 'own':
            reason = f'it is in the {layout.name} layout; '
            remedy = f'convert it with {command("convert-weights")}' if 'head.fc.weight' in wanted else (
                'a backbone alone is taken by model.backbone.init_cfg.checkpoint, to train from it')
        elif found and expected and found != expected:
            reason = f'it holds {found}, the model is {expected}; '
        elif re.search(r'missing \(\S*conv\.branch_3x3', parts) and 'stem.conv.bias' in parts:
            reason = 'it is fused; '
            remedy = f'give the folder that {command("deploy")} wrote, or set model.backbone.deploy=True'
        elif any(re.search(CLASSIFYING, key) and key in state and len(state[key]) != len(wanted[key]) for key in wanted):
            reason = 'it was trained for another number of classes; '
        raise CheckpointError(f'checkpoint {source} does not fit the model: {reason}tensors {parts}; {remedy}')
    check_values(state, wanted, source)
    model.load_state_dict(state)


def _by_names_of(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return whole models unchanged, unless the model is ours and the backbone uses the names of another code base."""
    prefix = 'backbone.'
    layout = to_own_layout({key[len(prefix):]: value for key, value in state.items() if key.startswith(prefix)})[2]
    if layout is None or layout.name == 'own':
        return state
    ours = {key: f'{prefix}{name}' for key in state if key.startswith(prefix) and (name := layout.to_own(key[len(prefix):]))}
    return {ours.get(key, key): value for key, value in state.items()} if wanted.keys() & ours.values() else state


def differences(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Describe how weights differ from the expected ones, in names and shapes; empty if they match."""
    missing = [key for key in wanted if key not in state]
    unused = [key for key in state if key not in wanted]
    shapes = [f'{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}'
              for key in wanted if key in state and state[key].shape != wanted[key].shape]
    return ', '.join(f'{len(keys)} {what} ({some(keys)})' for what, keys in (
        ('missing', missing), ('not used', unused), ('of another shape', shapes)) if keys)
