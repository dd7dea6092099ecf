"""Channels of a fused segmentor that can be removed: the convolutions that compute them, and those that read them.

Fused RepVGG has no shortcuts, so every layer can have a width of its own. In the heads, some convolutions must keep the same
channels because their outputs are added.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..core.config_types import type_name
from ..core.errors import UserError, some
from ..models import FactorizedPSPHead, RepFPNHead
from ..models.blocks import RepVGGBlock, SqueezeExcitation
from ..models.repvgg import RepVGG

HEADS = ('RepFPNHead', 'FactorizedPSPHead')


class Span(NamedTuple):
    """Consecutive output or input channels of a convolution that belong to a group.

    Args:
        conv: convolution.
        start: index of the first of these channels in the convolution.
        size: number of channels.
        offset: index of the first of these channels in the group.
    """
    conv: nn.Conv2d
    start: int
    size: int
    offset: int = 0

    def of(self, kept: Tensor) -> Tensor:
        """Indices of those channels of the convolution that are kept.

        Args:
            kept: sorted indices in the group of the channels that are kept.
        """
        inside = kept[(kept >= self.offset) & (kept < self.offset + self.size)]
        return inside - self.offset + self.start


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels that are removed together.

    Args:
        name: name of the group.
        size: number of channels.
        producers: output channels of the convolutions that compute these channels. If several spans cover a channel, their
            outputs are added.
        consumers: input channels of the convolutions that read these channels.
        parts: number of equal parts of the channels that must keep equally many channels each.
    """
    name: str
    size: int
    producers: tuple[Span, ...]
    consumers: tuple[Span, ...]
    parts: int = 1


def channel_groups(model: nn.Module) -> list[ChannelGroup]:
    """List the channel groups of a fused segmentor, from the stem to the classifier.

    Args:
        model: segmentor that :func:`repvgg_seg.deploy.fusing.fuse_for_inference` returned.

    Raises:
        UserError: the backbone is not a plain RepVGG, or the head is not one of ``HEADS``.
    """
    segmentor: Any = model
    backbone, head = segmentor.backbone, segmentor.decode_head
    if type(backbone) is not RepVGG or segmentor.with_neck:
        raise UserError(f'only a RepVGG without a neck can be pruned, got {type(backbone).__name__}'
                        f'{" and " + type(segmentor.neck).__name__ if segmentor.with_neck else ""}')
    if any(isinstance(module, SqueezeExcitation) for module in backbone.modules()):
        raise UserError('a RepVGG with squeeze-and-excitation (use_se) cannot be pruned')
    if others := {type(module).__name__ for module in model.modules()
                  if not isinstance(module, nn.Conv2d) and list(module.parameters(recurse=False))}:
        raise UserError(f'{some(sorted(others))} cannot be pruned: a removed channel must be zero after it; expected only '
                        'convolutions and batch norms')
    layers = _layers(backbone)
    readers: dict[int, list[Span]] = {}  # By the index of the layer.
    ends = _ends(backbone)
    maps = [ends[stage] for stage in backbone.out_indices]
    if type(head) is RepFPNHead:
        head_groups = _fpn_groups(head, [maps[index] for index in head.in_index], readers)
    elif type(head) is FactorizedPSPHead and head.input_transform is None:
        head_groups = _psp_groups(head, maps[head.in_index], readers)
    else:
        raise UserError(f'{type(head).__name__} cannot be pruned; expected {" or ".join(HEADS)} on one feature map each')
    parts = max(conv.groups for conv in layers)
    groups = []
    for index, conv in enumerate(layers):
        consumers = [whole_input(layers[index + 1])] if index + 1 < len(layers) else []
        groups.append(ChannelGroup(f'backbone.{index}', conv.out_channels, (whole_output(conv), ),
                                   (*consumers, *readers.get(index, ())), parts))
    return [*groups, *head_groups]


def whole_output(conv: nn.Conv2d) -> Span:
    """All output channels of a convolution."""
    return Span(conv, 0, conv.out_channels)


def whole_input(conv: nn.Conv2d) -> Span:
    """All input channels of a convolution."""
    return Span(conv, 0, conv.in_channels)


def pruned_state(model: nn.Module, groups: Sequence[ChannelGroup], kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of a model without the removed channels.

    Args:
        model: fused segmentor.
        groups: its channel groups.
        kept: sorted indices of the channels of each group that are kept, by the name of the group.
    """
    outputs, inputs = (_kept_channels(groups, kept, role) for role in ('producers', 'consumers'))
    state = dict(model.state_dict())
    for name, conv in model.named_modules():
        if isinstance(conv, nn.Conv2d):
            rows = outputs.get(conv, torch.arange(conv.out_channels))
            columns = inputs.get(conv, torch.arange(conv.in_channels))
            state[f'{name}.weight'] = _sliced(conv, rows, columns)
            if conv.bias is not None:
                state[f'{name}.bias'] = conv.bias.detach()[rows]
    return state


@torch.no_grad()
def mask(groups: Sequence[ChannelGroup], kept: Mapping[str, Tensor]) -> None:
    """Set the removed channels to zero in place, which gives the same outputs as removing them."""
    for group in groups:
        removed = torch.ones(group.size, dtype=torch.bool)
        removed[kept[group.name]] = False
        for span in group.producers:
            rows = span.of(removed.nonzero().flatten())
            span.conv.weight[rows] = 0
            if span.conv.bias is not None:
                span.conv.bias[rows] = 0


def set_widths(model: Any, config: Any, kept: Mapping[str, int]) -> None:
    """Write the numbers of channels that are kept into the config of a fused segmentor.

    Args:
        model: fused segmentor.
        config: ``model`` of its config, which is modified.
        kept: numbers of channels that are kept, by the name of the group.
    """
    backbone = model.backbone
    widths = [kept[f'backbone.{index}'] for index in range(len(_layers(backbone)))]
    stages, start = [widths[:1]], 1
    for stage in backbone.stages:
        stages.append(widths[start:start + len(stage)])
        start += len(stage)
    arch = dict(layer_widths=stages)
    groups = max(conv.groups for conv in _layers(backbone))
    config.backbone.arch = arch if groups == 1 else dict(arch, groups=groups)
    ends, head = _ends(backbone), config.decode_head
    maps = [widths[ends[stage]] for stage in backbone.out_indices]
    if type_name(head) == 'RepFPNHead':
        head.in_channels = [maps[index] for index in model.decode_head.in_index]
        head.context_channels = kept['head.context']
        head.fusion_channels = [kept[f'head.fusion.{index}'] for index in range(len(model.decode_head.laterals))]
        *between, head.channels = [kept[f'head.block.{index}'] for index in range(len(model.decode_head.refine))]
        head.block_channels = between
    else:
        head.in_channels = maps[model.decode_head.in_index]
        head.pool_channels = kept['head.pyramid'] // len(model.decode_head.pool_scales)
        head.channels = kept['head.bottleneck']


def _layers(backbone: RepVGG) -> list[nn.Conv2d]:
    """The fused convolutions of a backbone in order, starting with the stem."""
    blocks: list[Any] = [module for module in backbone.modules() if isinstance(module, RepVGGBlock)]
    return [block.conv for block in blocks]


def _ends(backbone: RepVGG) -> list[int]:
    """Index of the last layer of each of the stages 2 to 5, where the stem is layer 0."""
    ends = [0]
    for stage in backbone.stages:
        ends.append(ends[-1] + len(list(stage.children())))
    return ends[1:]


def _fpn_groups(head: Any, maps: Sequence[int], readers: dict[int, list[Span]]) -> list[ChannelGroup]:
    reduce, pooled = head.reduce.conv, list(head.context.convs)
    readers.setdefault(maps[-1], []).append(whole_input(reduce))
    laterals = [lateral.conv for lateral in head.laterals]
    for index, lateral in zip(maps[-2::-1], laterals):
        readers.setdefault(index, []).append(whole_input(lateral))
    blocks, refine = [block.conv for block in head.blocks], [block.conv for block in head.refine]
    after = [*blocks, refine[0]]
    groups = [ChannelGroup('head.context', reduce.out_channels, tuple(map(whole_output, (reduce, *pooled))),
                           tuple(map(whole_input, (*pooled, after[0]))))]
    for index, (block, lateral, reader) in enumerate(zip(blocks, laterals, after[1:])):
        groups.append(ChannelGroup(f'head.fusion.{index}', block.out_channels, (whole_output(block), whole_output(lateral)),
                                   (whole_input(reader), )))
    for index, (conv, reader) in enumerate(zip(refine, [*refine[1:], head.conv_seg])):
        groups.append(ChannelGroup(f'head.block.{index}', conv.out_channels, (whole_output(conv), ), (whole_input(reader), )))
    return groups


def _psp_groups(head: Any, feature_map: int, readers: dict[int, list[Span]]) -> list[ChannelGroup]:
    bottleneck, branches = head.bottleneck.conv, [branch[1].conv for branch in head.psp_modules]
    readers.setdefault(feature_map, []).extend([*map(whole_input, branches), Span(bottleneck, 0, head.in_channels)])
    size = head.pool_channels * len(branches)
    producers = tuple(Span(conv, 0, head.pool_channels, index * head.pool_channels) for index, conv in enumerate(branches))
    return [ChannelGroup('head.pyramid', size, producers, (Span(bottleneck, head.in_channels, size), ), len(branches)),
            ChannelGroup('head.bottleneck', bottleneck.out_channels, (whole_output(bottleneck), ),
                         (whole_input(head.conv_seg), ))]


def _kept_channels(groups: Sequence[ChannelGroup], kept: Mapping[str, Tensor], role: str) -> dict[nn.Conv2d, Tensor]:
    """Sorted indices of the output or input channels that each convolution keeps."""
    found: dict[nn.Conv2d, list[Tensor]] = {}
    for group in groups:
        for span in getattr(group, role):
            found.setdefault(span.conv, []).append(span.of(kept[group.name]))
    return {conv: torch.cat(parts).sort().values for conv, parts in found.items()}


def _sliced(conv: nn.Conv2d, rows: Tensor, columns: Tensor) -> Tensor:
    """Weight (O', I' / groups, kH, kW) of a convolution that keeps these output and input channels.

    A group of a groupwise convolution reads only its own input channels, of which each group keeps equally many.
    """
    weight, width = conv.weight.detach(), conv.in_channels // conv.groups
    parts = []
    for group, own in enumerate(rows.chunk(conv.groups)):
        local = columns[(columns >= group * width) & (columns < (group + 1) * width)] - group * width
        parts.append(weight[own][:, local])
    return torch.cat(parts)
