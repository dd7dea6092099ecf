"""The names that RepVGG's tensors have in other code bases, and the architecture that a set of tensors belongs to."""
import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from .models.archs import ARCHS


@dataclass(frozen=True)
class Layout:
    """How one code base names the tensors.

    Args:
        name: shown to users.
        blocks: two (theirs, ours) prefixes of a block as regular expression and template: the stem, and a block of a stage.
            Their stage numbers are shifted by ``first_stage`` to ours, which begin at 0.
        first_stage: number of the stage after the stem.
        modules: theirs -> ours, inside a block of the training form.
        fused: their name of the fused convolution inside a block.
    """
    name: str
    stem: str
    stage: str
    first_stage: int
    modules: dict[str, str]
    fused: str

    def translate(self, key: str) -> str | None:
        """Our name of one of their keys, or None if it is not of this layout."""
        match = re.fullmatch(f'(?:{self.stem}|{self.stage})(?P<rest>.+)', key)
        if match is None:
            return None
        module, _, tensor = match['rest'].rpartition('.')
        ours = 'conv' if module == self.fused else self.modules.get(module)
        if ours is None:
            return None
        block = 'stem' if match['stage'] is None else f'stages.{int(match["stage"]) - self.first_stage}.{match["block"]}'
        return f'{block}.{ours}.{tensor}'

    def is_fused(self, keys: Mapping[str, Tensor]) -> bool:
        """Whether tensors of this layout are in fused form."""
        return any(re.fullmatch(f'(?:{self.stem}|{self.stage}){re.escape(self.fused)}\\.weight', key) for key in keys)


_OWN_MODULES = ('conv.branch_3x3.conv', 'conv.branch_3x3.norm', 'conv.branch_1x1.conv', 'conv.branch_1x1.norm',
                'conv.branch_identity', 'se.reduce', 'se.expand')


def _layout(name: str, stem: str, stage: str, first_stage: int, fused: str, *modules: str) -> Layout:
    stage = stage.replace('S', r'(?P<stage>\d)').replace('B', r'(?P<block>\d+)')
    return Layout(name, stem, stage, first_stage, dict(zip(modules, _OWN_MODULES)), fused)


LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (
    _layout('own', r'stem\.', r'stages\.S\.B\.', 0, 'conv', *_OWN_MODULES),
    _layout('official', r'stage0\.', r'stageS\.B\.', 1, 'rbr_reparam', 'rbr_dense.conv', 'rbr_dense.bn', 'rbr_1x1.conv',
            'rbr_1x1.bn', 'rbr_identity', 'se.down', 'se.up'),
    _layout('MMPretrain', r'stem\.', r'stage_S\.B\.', 1, 'branch_reparam', 'branch_3x3.conv', 'branch_3x3.norm',
            'branch_1x1.conv', 'branch_1x1.norm', 'branch_norm', 'se_layer.conv1.conv', 'se_layer.conv2.conv'),
    _layout('timm', r'stem\.', r'stages\.S\.B\.', 0, 'reparam_conv', 'conv_kxk.conv', 'conv_kxk.bn', 'conv_1x1.conv',
            'conv_1x1.bn', 'identity', 'attn.fc1', 'attn.fc2'),
)}
# Weights that may stand beside a backbone and are rightly left out.
HEADS = re.compile(r'(linear|head|fc|neck|decode_head|auxiliary_head|data_preprocessor)\.')


def to_own_layout(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str], Layout | None]:
    """Rename tensors into our layout.

    Args:
        state: tensors by their names in any of :data:`LAYOUTS`.

    Returns:
        The renamed tensors, with names that no layout knows kept as they are; names of heads, which were left out; the
        layout that was recognised (the one that knows most names), or None.
    """
    body = [key for key in state if not HEADS.match(key)]
    layout = max(LAYOUTS.values(), key=lambda layout: sum(layout.translate(key) is not None for key in body))
    if not any(layout.translate(key) for key in body):
        return {}, [], None
    renamed = {layout.translate(key) or key: state[key] for key in body}
    return renamed, [key for key in state if HEADS.match(key)], layout


def describe_arch(state: Mapping[str, Tensor], prefix: str = '') -> str:
    """Name the architecture that tensors in our layout belong to, e.g. ``RepVGG-A0``; empty if they hold no RepVGG."""
    pattern = re.compile(re.escape(prefix) + r'stages\.(\d)\.(\d+)\.conv\.(?:branch_3x3\.conv\.)?weight')
    kernels = {(int(match[1]), int(match[2])): value for key, value in state.items() if (match := pattern.fullmatch(key))}
    if not kernels:
        return ''
    num_blocks = tuple(sum(stage == index for stage, _ in kernels) for index in range(4))
    widths = tuple(kernels[stage, 0].shape[0] if (stage, 0) in kernels else 0 for stage in range(4))
    use_se = any(key.startswith(f'{prefix}stem.se.') for key in state)
    # The 2nd block of the first stage is the 3rd layer of the network: the first groupwise one.
    second = kernels.get((0, 1))
    groups = second.shape[0] // second.shape[1] if second is not None else 1
    for name, arch in ARCHS.items():
        if (arch.num_blocks, arch.stage_widths, arch.use_se, arch.groups) == (num_blocks, widths, use_se, groups):
            return f'RepVGG-{name}'
    return f'a RepVGG of {num_blocks} blocks, {widths} channels, {groups} groups'
