"""The names of RepVGG's tensors in other code bases, and the architecture that a set of tensors belongs to."""
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from ..core.errors import UserError
from .archs import ARCHS, BASE_WIDTHS, RepVGGArch


@dataclass(frozen=True)
class Layout:
    """How one code base names its tensors.

    Args:
        name: name shown to users.
        stem: their prefix of the stem's tensors.
        stage: their prefix of a block's tensors, with the placeholders ``{stage}`` and ``{block}``.
        first_stage: their number of the stage after the stem; ours is 0.
        fused: their name of the fused convolution inside a block.
        modules: mapping from their module names to ours, inside a block of the training form.
        classifier: their prefix of the linear layer's tensors in a classifier's checkpoint.
        backbone: their prefix of all other tensors in a classifier's checkpoint.
    """
    name: str
    stem: str
    stage: str
    first_stage: int
    fused: str
    modules: dict[str, str]
    classifier: str
    backbone: str = ''

    def to_own(self, key: str) -> str | None:
        """Our name of one of their keys, or None if the key is not in this layout."""
        match = self.pattern.fullmatch(key)
        if match is None:
            return None
        module, _, tensor = match['rest'].rpartition('.')
        ours = 'conv' if module == self.fused else self.modules.get(module)
        if ours is None:
            return None
        block = 'stem' if match['stage'] is None else f'stages.{int(match["stage"]) - self.first_stage}.{match["block"]}'
        return f'{block}.{ours}.{tensor}'

    def from_own(self, key: str) -> str:
        """Their name of one of our keys.

        Raises:
            KeyError: the key is not one of ours.
        """
        match = LAYOUTS['own'].pattern.fullmatch(key)
        if match is None:
            raise KeyError(key)
        module, _, tensor = match['rest'].rpartition('.')
        theirs = self.fused if module == 'conv' else {ours: name for name, ours in self.modules.items()}[module]
        block = self.stem if match['stage'] is None else self.stage.format(
            stage=int(match['stage']) + self.first_stage, block=match['block'])
        return f'{block}{theirs}.{tensor}'

    def is_fused(self, keys: Mapping[str, Tensor]) -> bool:
        """Whether tensors in this layout are in fused form."""
        return any((match := self.pattern.fullmatch(key)) and match['rest'] == f'{self.fused}.weight' for key in keys)

    @cached_property
    def pattern(self) -> re.Pattern:
        """Pattern of all their backbone keys, with groups ``stage`` and ``block`` (None for the stem), and ``rest``."""
        stage = re.escape(self.stage.format(stage='STAGE', block='BLOCK'))
        stage = stage.replace('STAGE', r'(?P<stage>\d)').replace('BLOCK', r'(?P<block>\d+)')
        return re.compile(f'(?:{re.escape(self.stem)}|{stage})(?P<rest>.+)')


_OWN_MODULES = ('conv.branch_3x3.conv', 'conv.branch_3x3.norm', 'conv.branch_1x1.conv', 'conv.branch_1x1.norm',
                'conv.branch_identity', 'se.reduce', 'se.expand')


def _modules(*theirs: str) -> dict[str, str]:
    return dict(zip(theirs, _OWN_MODULES))


LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (
    Layout('own', 'stem.', 'stages.{stage}.{block}.', 0, 'conv', _modules(*_OWN_MODULES), 'head.fc.', 'backbone.'),
    Layout('official', 'stage0.', 'stage{stage}.{block}.', 1, 'rbr_reparam', _modules(
        'rbr_dense.conv', 'rbr_dense.bn', 'rbr_1x1.conv', 'rbr_1x1.bn', 'rbr_identity', 'se.down', 'se.up'), 'linear.'),
    Layout('MMPretrain', 'stem.', 'stage_{stage}.{block}.', 1, 'branch_reparam', _modules(
        'branch_3x3.conv', 'branch_3x3.norm', 'branch_1x1.conv', 'branch_1x1.norm', 'branch_norm', 'se_layer.conv1.conv',
        'se_layer.conv2.conv'), 'head.fc.', 'backbone.'),
    Layout('timm', 'stem.', 'stages.{stage}.{block}.', 0, 'reparam_conv', _modules(
        'conv_kxk.conv', 'conv_kxk.bn', 'conv_1x1.conv', 'conv_1x1.bn', 'identity', 'attn.fc1', 'attn.fc2'), 'head.fc.'),
)}
# Other weights beside a backbone that are left out on purpose.
HEADS = re.compile(r'(linear|head|fc|neck|decode_head|auxiliary_head|data_preprocessor)\.')


def to_own_layout(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str], Layout | None]:
    """Rename tensors into our layout.

    Args:
        state: tensors by their names in any of the :data:`LAYOUTS`.

    Returns:
        The renamed tensors, in which names unknown to every layout are unchanged; names of head tensors, which were left out;
        the detected layout (the one that knows the most names), or None.
    """
    body = [key for key in state if not HEADS.match(key)]
    layout = max(LAYOUTS.values(), key=lambda layout: sum(layout.to_own(key) is not None for key in body))
    if not any(layout.to_own(key) for key in body):
        return {}, [], None
    renamed = {layout.to_own(key) or key: state[key] for key in body}
    return renamed, [key for key in state if HEADS.match(key)], layout


def arch_of(state: Mapping[str, Tensor], prefix: str = '') -> RepVGGArch | None:
    """Find the architecture that tensors in our layout belong to; None if they do not hold a RepVGG with four stages.

    Args:
        state: tensors by name, in training or fused form.
        prefix: prefix of these names.

    Raises:
        UserError: no RepVGG has tensors of these shapes.
    """
    pattern = re.compile(re.escape(prefix) + r'stages\.(\d)\.(\d+)\.conv\.(?:branch_3x3\.conv\.)?weight')
    kernels = {(int(match[1]), int(match[2])): value.shape for key, value in state.items()
               if (match := pattern.fullmatch(key)) and value.dim() == 4 and value.numel()}
    if any((stage, 0) not in kernels for stage in range(4)):
        return None
    # The first groupwise layer is the third of the network, after the stem and one block.
    second, third = sorted(kernels)[:2]
    groups, use_se = kernels[second][0] // kernels[third][1], any(key.startswith(f'{prefix}stem.se.') for key in state)
    stages = [tuple(kernels[block][0] for block in sorted(kernels) if block[0] == stage) for stage in range(4)]
    stem = next((state[name].shape[0] for name in (f'{prefix}stem.conv.weight', f'{prefix}stem.conv.branch_3x3.conv.weight')
                 if name in state), min(64, stages[0][0]))
    if any(len(set(stage)) > 1 for stage in stages) or stem != min(64, stages[0][0]):
        return RepVGGArch.of_layers([(stem, ), *stages], groups, use_se)
    return RepVGGArch(
        num_blocks=tuple(sum(stage == index for stage, _ in kernels) for index in range(4)),
        width_factors=tuple(kernels[stage, 0][0] / BASE_WIDTHS[stage] for stage in range(4)),
        groups=groups, use_se=use_se)


def describe_arch(state: Mapping[str, Tensor], prefix: str = '') -> str:
    """Name the architecture that tensors in our layout belong to, e.g. ``RepVGG-A0``; empty if they do not hold a RepVGG."""
    try:
        arch = arch_of(state, prefix)
    except UserError:
        return 'tensors of other shapes than those of any RepVGG'
    if arch is None:
        return ''
    name = next((name for name, known in ARCHS.items() if known == arch), None)
    if name:
        return f'RepVGG-{name}'
    return f'a RepVGG of {arch.num_blocks} blocks, {arch.stage_widths} channels, {arch.groups} groups'
