"""Reading checkpoints safely, and loading them whole or not at all."""
import io
import logging
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

from .config_types import type_name
from .environment import require_mm
from .errors import ArgumentTypeError, CheckpointError, some
from .files import write_atomically
from .layouts import LAYOUTS, Layout, describe_arch, to_own_layout

try:
    from mmengine.logging import HistoryBuffer, print_log
except ModuleNotFoundError:
    require_mm('mmengine')
    raise

HISTORY_METHODS = ('min', 'max', 'mean', 'current')
# What the unpickler and the archive reader raise on damaged files.
UNREADABLE = (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, ImportError)
CLASSIFYING = r'(conv_seg|head\.fc)\.(weight|bias)$'  # Layers with one output a class.
BEST = 'best_'  # How the names of checkpoints begin that were the best; these have no optimizer state.
STATE_DICT_KEYS = ('state_dict', 'model', 'model_state')


_trusted = False


def trust_checkpoints(trusted: bool) -> None:
    """Whether :func:`read_checkpoint` also reads files that could run code, with a warning; at first it does not."""
    global _trusted
    _trusted = trusted


def read_checkpoint(source: str | Path) -> Mapping:
    """Read a checkpoint from a file or URL onto the CPU, with ``weights_only=True``.

    Args:
        source: path, or an http(s) URL, which is downloaded once and kept in torch's hub cache.

    Returns:
        What the file holds, a dict.

    Raises:
        CheckpointError: no such file, no network, not a checkpoint, cut short, or (see :func:`trust_checkpoints`) a pickle
            that carries code.
    """
    source = str(source)
    path = _download(source) if re.match(r'https?://', source) else Path(source).expanduser()
    if path.is_dir():
        raise CheckpointError(f'checkpoint {source} is a folder; expected a .pth file, such as one in it')
    if not path.is_file():
        raise CheckpointError(f'checkpoint {source} does not exist')
    try:
        checkpoint = _load(path, source)
    except UNREADABLE as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f'checkpoint {source} cannot be read (cut short or not a checkpoint): {first_line}') from None
    if not isinstance(checkpoint, Mapping):
        raise CheckpointError(f'checkpoint {source} holds a {type(checkpoint).__name__}, expected a dict')
    return checkpoint


def _load(path: Path, source: str) -> object:
    try:
        with torch.serialization.safe_globals(_training_state_globals()):
            return torch.load(path, map_location='cpu', weights_only=True)
    except UnpicklingError as error:
        found = re.search(r'GLOBAL \S+|Unsupported .{0,80}', str(error))
        reason = found.group(0) if found else type(error).__name__
    if not _trusted:
        raise CheckpointError(
            f'checkpoint {source} is refused: it is damaged, or holds more than tensors and plain values ({reason}), which '
            'could run code; get an intact copy, or save its state_dict alone. If you know who made it, add '
            '--trust-checkpoint') from None
    print_log(f'{source} is trusted: it holds more than tensors and plain values ({reason}) and may run any code now',
              logger='current', level=logging.WARNING)
    try:
        return torch.load(path, map_location='cpu', weights_only=False)
    except UnpicklingError as error:
        raise EOFError(f'damaged: {error}') from None


def state_dict_of(checkpoint: Mapping, source: str | Path) -> dict[str, Tensor]:
    """The weights in a checkpoint, bare or under one of the usual keys, without DataParallel's ``module.`` prefix.

    Raises:
        CheckpointError: it holds no tensors.
    """
    for key in STATE_DICT_KEYS:
        if isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    state = {key: value for key, value in checkpoint.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not state:
        raise CheckpointError(f'checkpoint {source} holds no weights; its keys are {some(checkpoint)}')
    if all(key.startswith('module.') for key in state):
        state = {key[len('module.'):]: value for key, value in state.items()}
    return state


def load_model(model: nn.Module, source: str | Path) -> dict:
    """Load a whole model strictly.

    Args:
        model: e.g. a segmentor, in the form (training or fused) in which the checkpoint was written.
        source: path or URL.

    Returns:
        The checkpoint's ``meta``, or an empty dict.

    Raises:
        CheckpointError: unreadable, or any key or shape differs; nothing was loaded.
    """
    checkpoint = read_checkpoint(source)
    load_model_state(model, checkpoint, source)
    meta = checkpoint.get('meta')
    return dict(meta) if isinstance(meta, Mapping) else {}


def load_model_state(model: nn.Module, checkpoint: Mapping, source: str | Path) -> None:
    """Load a whole model strictly from what :func:`read_checkpoint` read from ``source``.

    Raises:
        CheckpointError: any key or shape differs; nothing was loaded.
    """
    _load_strictly(model, state_dict_of(checkpoint, source), source)


def load_beginning(model: nn.Module, checkpoint: Mapping, source: str | Path) -> None:
    """Load a whole model to train it further; layers that classify, of another number of classes, keep the weights they have.

    Args:
        model: a segmentor or classifier.
        checkpoint: what :func:`read_checkpoint` read.
        source: where from, for messages.

    Raises:
        CheckpointError: any key, or any other shape, differs; nothing was loaded.
    """
    state, wanted = state_dict_of(checkpoint, source), model.state_dict()
    others = [key for key in state if re.search(CLASSIFYING, key) and key in wanted and state[key].shape != wanted[key].shape]
    for key in others:
        print_log(f'{key} of {source} is for {len(state[key])} classes, the model has {len(wanted[key])}: it starts anew',
                  logger='current', level=logging.WARNING)
    _load_strictly(model, {**state, **{key: wanted[key] for key in others}}, source)


def load_pretrained(backbone: nn.Module, source: str | Path | Sequence[str | Path], prefix: str | None = None) -> None:
    """Load a backbone from a checkpoint in the official, MMPretrain's, timm's or our own layout.

    Classifier and head weights beside the backbone's are left out, everything else must fit.

    Args:
        backbone: a :class:`~repvgg_seg.models.RepVGG`, in training or in fused form.
        source: path or URL; or several, of which the first that exists is taken. A folder stands for the best, else the
            last checkpoint in it.
        prefix: of the backbone's keys, as MMEngine's ``Pretrained`` has it; found by itself where it is ``backbone.``.

    Raises:
        CheckpointError: unreadable, another architecture, the other form (training or fused), or any other difference;
            nothing was loaded.
    """
    path, checkpoint = _first_available([source] if isinstance(source, (str, Path)) else list(source))
    weights, left_out, layout, fused = backbone_of(state_dict_of(checkpoint, path), path, prefix)
    wanted = backbone.state_dict()
    if fused != backbone.deploy:
        if backbone.deploy:
            raise CheckpointError(f'checkpoint {path} is in training form, but the backbone has deploy=True; build it with '
                                  'deploy=False, load, then call switch_to_deploy()')
        raise CheckpointError(f'checkpoint {path} holds fused weights, which cannot be trained further; use the checkpoint '
                              'from before fusing')
    # Old PyTorch did not save this counter, which only matters for norms with momentum=None.
    for key in wanted:
        if key.endswith('.num_batches_tracked') and key not in weights:
            weights[key] = wanted[key]
    found, expected = describe_arch(weights), describe_arch(wanted)
    if found and found != expected:
        raise CheckpointError(f'checkpoint {path} holds {found}, but the backbone is {expected}; '
                              'choose the checkpoint or the arch to fit')
    _load_strictly(backbone, weights, path)
    print_log(f'Loaded {len(weights)} of {len(wanted)} backbone tensors from {path} ({layout.name} layout)'
              + (f'; not used: {some(left_out)}' if left_out else ''), logger='current')


def backbone_of(state: Mapping[str, Tensor], source: str | Path,
                prefix: str | None = None) -> tuple[dict[str, Tensor], dict[str, Tensor], Layout, bool]:
    """The weights of a RepVGG in our layout, out of those of a backbone, a classifier or a segmentor in any layout.

    Args:
        state: the weights.
        source: where they are from, for messages.
        prefix: of the backbone's keys; found by itself where it is ``backbone.``.

    Returns:
        The backbone's weights by our names (names that the layout does not know kept); those beside it by their own names;
        the layout; whether the backbone is fused.

    Raises:
        CheckpointError: nothing has the prefix, or nothing in it is of a RepVGG.
    """
    prefix = prefix or ('backbone.' if any(key.startswith('backbone.') for key in state) else '')
    if prefix and not prefix.endswith('.'):
        prefix += '.'
    inside = {key[len(prefix):]: value for key, value in state.items() if key.startswith(prefix)}
    if not inside:
        raise CheckpointError(f'checkpoint {source} has no key that starts with {prefix!r}; its keys are {some(state)}')
    weights, heads, layout = to_own_layout(inside)
    if layout is None:
        raise CheckpointError(f'checkpoint {source} is no RepVGG in the layout of {", ".join(LAYOUTS)}; its keys are '
                              f'{some(inside)}')
    beside = {key: value for key, value in state.items() if not key.startswith(prefix) or key[len(prefix):] in heads}
    return weights, beside, layout, layout.is_fused(inside)


def pretrained_config(init_cfg: Mapping | Sequence[Mapping] | None) -> Mapping | None:
    """The ``dict(type='Pretrained', checkpoint=...)`` in an ``init_cfg``, if there is one.

    Raises:
        ArgumentTypeError: it has no ``checkpoint``.
    """
    configs = [init_cfg] if isinstance(init_cfg, Mapping) else list(init_cfg or [])
    for config in configs:
        if type_name(config) in ('Pretrained', 'PretrainedInit'):
            if not config.get('checkpoint'):
                raise ArgumentTypeError(f'init_cfg of type Pretrained needs a checkpoint, got {dict(config)}; '
                                        'for random weights use init_cfg=None')
            return config
    return None


def find_checkpoint(folder: Path) -> Path | None:
    """The best checkpoint of the last run in a work dir, else the last one; None where there is none.

    The files themselves tell which they are; their times, which copying changes, count only where they do not.
    """
    outlines = {path: outline(path) for path in sorted(folder.glob('*.pth')) if path.is_file()}
    last_first = sorted(outlines, key=lambda path: (progress(outlines[path]), path.stat().st_mtime_ns), reverse=True)
    resumable = next((path for path in last_first if not path.name.startswith(BEST)), None)
    if resumable is not None:
        for name in _named_best(outlines[resumable]):
            if folder / name in outlines:
                return folder / name
    newest_run = [path for path in last_first if progress(outlines[path])[:1] == progress(outlines[last_first[0]])[:1]]
    return next((path for path in newest_run if path.name.startswith(BEST)), next(iter(newest_run), None))


def outline(path: Path) -> Mapping:
    """What a checkpoint holds, without reading its tensors from the disk; empty where it cannot be read."""
    if not path.is_file():  # A pipe would be waited for.
        return {}
    try:
        with torch.serialization.safe_globals(_training_state_globals()):
            content = torch.load(path, map_location='cpu', weights_only=not _trusted, mmap=zipfile.is_zipfile(path))
    except (UnpicklingError, *UNREADABLE):
        return {}
    return content if isinstance(content, Mapping) else {}


def progress(checkpoint: Mapping) -> tuple[int, ...]:
    """How far a training was when it wrote a checkpoint; what was written later has a larger value.

    Returns:
        The number of the run (of those that were started in one work dir), iterations and epochs; empty where the checkpoint,
        such as weights alone, does not say.
    """
    meta = checkpoint.get('meta')
    if not isinstance(meta, Mapping) or not isinstance(meta.get('iter'), int):
        return ()
    return tuple(value if isinstance(value, int) else 0 for value in (meta.get(key) for key in ('run', 'iter', 'epoch')))


def _named_best(checkpoint: Mapping) -> list[str]:
    """Names of the files that MMEngine's message hub says are the best; if by several metrics, in the order of these."""
    hub = checkpoint.get('message_hub')
    info = hub.get('runtime_info') if isinstance(hub, Mapping) else None
    return [Path(value).name for key, value in info.items() if str(key).startswith('best_ckpt') and isinstance(value, str)] \
        if isinstance(info, Mapping) else []


def write_checkpoint(content: Mapping, path: Path) -> None:
    """Write a checkpoint at once: an interruption leaves the file that was there before, or none.

    The same content gives the same bytes, whatever the name of the file.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(buffer.getbuffer(), path)


def _first_available(sources: list[str | Path]) -> tuple[str, Mapping]:
    reasons = []
    for source in sources:
        found = find_checkpoint(Path(source).expanduser()) if Path(source).expanduser().is_dir() else source
        is_url = bool(re.match(r'https?://', str(source)))
        if found is None or not (is_url or Path(found).expanduser().is_file()):
            reasons.append(f'{source} does not exist')
            continue
        try:
            return str(found), read_checkpoint(found)
        except CheckpointError as error:
            if not is_url:
                raise
            reasons.append(str(error))
    raise CheckpointError(f'no pretrained weights: {"; ".join(reasons)}; give a file with --cfg-options '
                          'model.backbone.init_cfg.checkpoint=PATH, or train from scratch with model.backbone.init_cfg=None')


def _download(url: str) -> Path:
    from mmengine.dist import barrier, is_main_process
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    path = folder / url.rsplit('/', 1)[-1]
    error = None
    if is_main_process() and not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            # Published files end in the beginning of their SHA-256.
            sha256 = re.search(r'-([0-9a-f]{8,})\.pth$', url)
            torch.hub.download_url_to_file(url, str(path), sha256 and sha256[1], progress=False)
        except (OSError, RuntimeError) as failure:  # No network (URLError is an OSError), or another hash.
            error = failure
    barrier()
    if not path.is_file():
        raise CheckpointError(f'{url} cannot be downloaded' + (f' ({error})' if error else ''))
    return path


def _load_strictly(model: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    wanted = model.state_dict()
    state = _by_names_of(wanted, state)
    if parts := differences(state, wanted):
        found, expected = describe_arch(state, 'backbone.'), describe_arch(wanted, 'backbone.')
        _, _, layout = to_own_layout({key.removeprefix('backbone.'): value for key, value in state.items()})
        reason, remedy = '', 'use the config it was trained with'
        if layout is not None and layout.name != 'own':
            reason = f'it is in the {layout.name} layout; '
            remedy = 'convert it with tools/convert_weights.py' if 'head.fc.weight' in wanted else (
                'a backbone alone is taken by model.backbone.init_cfg.checkpoint, to train from it')
        elif found and expected and found != expected:
            reason = f'it holds {found}, the model is {expected}; '
        elif re.search(r'missing \(\S*conv\.branch_3x3', parts) and 'stem.conv.bias' in parts:
            reason, remedy = 'it is fused; ', 'give the folder that tools/deploy.py wrote, or set model.backbone.deploy=True'
        elif re.search(r'of another shape \(\S*(conv_seg|head\.fc)', parts):
            reason = 'it was trained for another number of classes; '
        raise CheckpointError(f'checkpoint {source} does not fit the model: {reason}tensors {parts}; {remedy}')
    model.load_state_dict(state)


def _by_names_of(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Whole models as they are, unless it is ours that is wanted and the backbone has the names of another code base."""
    prefix = 'backbone.'
    layout = to_own_layout({key[len(prefix):]: value for key, value in state.items() if key.startswith(prefix)})[2]
    if layout is None or layout.name == 'own':
        return state
    ours = {key: f'{prefix}{name}' for key in state if key.startswith(prefix) and (name := layout.to_own(key[len(prefix):]))}
    return {ours.get(key, key): value for key, value in state.items()} if wanted.keys() & ours.values() else state


def differences(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """What stands between some weights and those that are wanted: names and shapes; empty if they fit."""
    missing = [key for key in wanted if key not in state]
    unused = [key for key in state if key not in wanted]
    shapes = [f'{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}'
              for key in wanted if key in state and state[key].shape != wanted[key].shape]
    return ', '.join(f'{len(keys)} {what} ({some(keys)})' for what, keys in (
        ('missing', missing), ('not used', unused), ('of another shape', shapes)) if keys)


def _training_state_globals() -> list:
    """What MMEngine's training state (message hub, loop state) needs beyond tensors: histories as NumPy arrays."""
    import numpy as np
    core = np._core if hasattr(np, '_core') else np.core
    # NumPy 2 renamed numpy.core to numpy._core; checkpoints have the name of the NumPy that wrote them.
    functions = [(function, f'numpy.{package}.multiarray.{function.__name__}') for package in ('core', '_core')
                 for function in (core.multiarray._reconstruct, core.multiarray.scalar)]
    return [HistoryBuffer, np.ndarray, np.dtype, *functions,
            *(type(np.dtype(name)) for name in ('float64', 'float32', 'int64', 'int32', 'uint32', 'bool')),
            (_history_method, 'builtins.getattr')]


def _history_method(owner: type, name: str) -> Callable:
    """Stands in for ``getattr``, with which a pickle could reach anything: MMEngine's histories refer to their methods."""
    if owner is HistoryBuffer and name in HISTORY_METHODS:
        return getattr(owner, name)
    raise UnpicklingError(f'Unsupported operand getattr({owner!r}, {name!r})')
