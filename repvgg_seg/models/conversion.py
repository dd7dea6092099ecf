"""Converting RepVGG checkpoints between the layouts of different code bases."""
from pathlib import Path

import torch

from ..core.destinations import Output, check_outputs
from ..core.errors import CheckpointError, UserError, some
from ..core.reading import read_checkpoint
from . import RepVGG
from .layouts import HEADS, LAYOUTS, arch_of, describe_arch
from .pretrained import backbone_of, differences, write_checkpoint
from .weights import check_values, state_dict_of


def convert_checkpoint(source: str, target: Path, to: str = 'own', prefix: str | None = None,
                       key: str | None = None) -> list[str]:
    """Rename every tensor of a RepVGG backbone or classifier, keeping values and order.

    Args:
        source: path or URL of a checkpoint in the official, MMPretrain's, timm's or our own layout, in training or fused form.
        target: file to write. In our own layout it holds ``dict(state_dict=...)`` of an ``ImageClassifier``, which can be
            tested as a classifier and used to initialize segmentors; in the official layout it holds the bare tensors.
        to: layout of ``target``, 'own' or 'official'.
        prefix: prefix of the backbone's tensor names; tensors that neither have the prefix nor belong to a classifier are left
            out. Without a prefix, all tensors must belong to heads or to a backbone, whatever its prefix.
        key: key of the weights in the checkpoint, e.g. ``'model_ema'``; common keys are detected automatically.

    Returns:
        Lines for the terminal that describe what was done.

    Raises:
        CheckpointError: the source cannot be read, or is not a complete RepVGG; nothing was written.
        UserError: the target is the source, or a folder.
    """
    check_outputs([Output(target, 'DST')], [source])
    found = backbone_of(state_dict_of(read_checkpoint(source), source, key), source, prefix)
    weights, fused, lines = dict(found.weights), found.fused, []
    try:
        arch = arch_of(weights)
    except UserError as error:
        raise CheckpointError(f'checkpoint {source} has tensors of other shapes than those of any RepVGG ({error})') from None
    if arch is None:
        raise CheckpointError(f'checkpoint {source} is not a whole RepVGG: it has no block in one of the four stages')
    stem = weights.get('stem.conv.weight' if fused else 'stem.conv.branch_3x3.conv.weight')
    with torch.device('meta'):
        wanted = RepVGG(arch, in_channels=3 if stem is None else stem.shape[1], deploy=fused).state_dict()
    # Old PyTorch did not save this counter, which only matters for norms with momentum=None.
    counters = [name for name in wanted if name.endswith('.num_batches_tracked')]
    if counters and not any(name in weights for name in counters):
        weights |= {name: torch.zeros((), dtype=torch.int64) for name in counters}
        lines.append(f'added {len(counters)} counters num_batches_tracked, which old PyTorch did not save')
    # A wrapper can add its own names around a backbone from another code base.
    names = [found.layout.classifier, *(layout.classifier for layout in LAYOUTS.values())]
    theirs = next((name for name in names if any(each.startswith(name) for each in found.beside)), found.layout.classifier)
    classifier = {name: value for name, value in found.beside.items() if name.startswith(theirs)}
    left_out = [name for name in found.beside if not name.startswith(theirs)]
    if classifier:
        width, num_classes = arch.stage_widths[-1], len(next(iter(classifier.values())))
        wanted |= {theirs + name: torch.empty(shape, device='meta') for name, shape in (
            ('weight', (num_classes, width)), ('bias', (num_classes, )))}
    # Tensors that no layout knows must not be lost silently; segmentation heads have no place in a classifier.
    unknown = [] if prefix else [name for name in left_out if not HEADS.match(name)]
    state = {**weights, **classifier, **{name: found.beside[name] for name in unknown}}
    if problem := differences(state, wanted):
        raise CheckpointError(f'checkpoint {source} is not complete: it holds {describe_arch(weights)}, tensors {problem}'
                              + ('; to leave out what is not used, say with --prefix where the backbone is' if unknown else ''))
    check_values(state, wanted, source)
    if left_out:
        lines.append(f'left out {len(left_out)} tensors that are not part of a classifier: {some(left_out)}')

    layout = LAYOUTS[to]
    renamed = {layout.backbone + layout.from_own(name): value for name, value in weights.items()}
    renamed |= {layout.classifier + name[len(theirs):]: value for name, value in classifier.items()}
    renamed = {name: value.clone() for name, value in renamed.items()}  # Drops the rest of any shared storage.
    write_checkpoint(renamed if to == 'official' else dict(state_dict=renamed), target)
    kind = f'{"fused" if fused else "training"} form, ' + (f'{num_classes} classes' if classifier else 'without a classifier')
    lines.append(f'{describe_arch(weights)} ({kind}): {len(renamed)} tensors from the {found.layout.name} to the {to} layout')
    return lines
