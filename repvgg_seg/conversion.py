"""Converting the checkpoint of a RepVGG between the layouts of code bases."""
from pathlib import Path

import torch

from .checkpoints import backbone_of, differences, read_checkpoint, state_dict_of, write_checkpoint
from .errors import CheckpointError, UserError, some
from .layouts import HEADS, LAYOUTS, arch_of, describe_arch
from .models import RepVGG


def convert_checkpoint(source: str, target: Path, to: str = 'own') -> list[str]:
    """Rename every tensor of a RepVGG backbone or classifier; their values and order are kept.

    Args:
        source: path or URL, in the official, MMPretrain's, timm's or our own layout, in training or in fused form.
        target: file to write. In our own layout it holds ``dict(state_dict=...)`` of an ``ImageClassifier``, from which
            classifiers are tested and segmentors start; in the official one the bare tensors.
        to: layout of ``target``, 'own' or 'official'.

    Returns:
        What was done, in lines for a terminal.

    Raises:
        CheckpointError: the source cannot be read, or is not a whole RepVGG; nothing was written.
        UserError: the target is the source.
    """
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise UserError(f'cannot write {target}: it is the source; give another file')
    state = state_dict_of(read_checkpoint(source), source)
    weights, beside, layout, fused = backbone_of(state, source)
    lines = []
    arch = arch_of(weights)
    if arch is None:
        raise CheckpointError(f'checkpoint {source} is not a whole RepVGG: it has no block in one of the four stages')
    stem = weights.get('stem.conv.weight' if fused else 'stem.conv.branch_3x3.conv.weight')
    with torch.device('meta'):
        wanted = RepVGG(arch, in_channels=3 if stem is None else stem.shape[1], deploy=fused).state_dict()
    # Old PyTorch did not save this counter, which only matters for norms with momentum=None.
    counters = [key for key in wanted if key.endswith('.num_batches_tracked')]
    if counters and not any(key in weights for key in counters):
        weights |= {key: torch.zeros((), dtype=torch.int64) for key in counters}
        lines.append(f'added {len(counters)} counters num_batches_tracked, which old PyTorch did not save')
    classifier = {key[len(layout.classifier):]: value for key, value in beside.items() if key.startswith(layout.classifier)}
    left_out = [key for key in beside if not key.startswith(layout.classifier)]
    if classifier:
        width, num_classes = arch.stage_widths[-1], len(next(iter(classifier.values())))
        wanted |= {layout.classifier + name: torch.empty(shape, device='meta') for name, shape in (
            ('weight', (num_classes, width)), ('bias', (num_classes, )))}
    # What no layout knows must not get lost; heads of a segmentor have no place in a classifier.
    found = {**weights, **{layout.classifier + name: value for name, value in classifier.items()},
             **{key: beside[key] for key in left_out if not HEADS.match(key)}}
    if problem := differences(found, wanted):
        raise CheckpointError(f'checkpoint {source} is not complete: it holds {describe_arch(weights)}, tensors {problem}')
    if left_out:
        lines.append(f'left out {len(left_out)} tensors that are not part of a classifier: {some(left_out)}')

    theirs = LAYOUTS[to]
    renamed = {theirs.backbone + theirs.from_own(key): value for key, value in weights.items()}
    renamed |= {theirs.classifier + name: value for name, value in classifier.items()}
    renamed = {key: value.clone() for key, value in renamed.items()}  # Without what else a shared storage holds.
    write_checkpoint(renamed if to == 'official' else dict(state_dict=renamed), target)
    kind = f'{"fused" if fused else "training"} form, ' + (f'{num_classes} classes' if classifier else 'without a classifier')
    lines.append(f'{describe_arch(weights)} ({kind}): {len(renamed)} tensors from the {layout.name} to the {to} layout')
    return lines
