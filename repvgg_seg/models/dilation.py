"""Strides and dilations of the stages: the presets of the paper (section 4.3) and their general form."""
from collections.abc import Sequence

from ..core.errors import ArgumentTypeError, UserError

PRESETS = ('full', 'fast')
FAST_DILATED_BLOCKS = 4  # 'fast' dilates the last 5 layers: these blocks of stage 4, and the one block of stage 5.
CLASSIFICATION_STRIDES = (2, 2, 2, 2)
SEGMENTATION_STRIDES = (2, 2, 1, 1)


def resolve_dilation(num_blocks: Sequence[int], dilation: str | None, strides: Sequence[int] | None,
                     dilations: Sequence[int | Sequence[int]] | None
                     ) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """Resolve the backbone's arguments to one stride per stage and one dilation per block.

    Args:
        num_blocks: number of blocks in each of stages 2 to 5.
        dilation: None (output stride 32), 'full' or 'fast' (output stride 8).
        strides: stride of the first block of each stage, 1 or 2; an alternative to ``dilation``.
        dilations: for each stage, one dilation or one for each of its blocks; an alternative to ``dilation``.

    Returns:
        The strides (4 numbers), and for each stage the dilations of its blocks.

    Raises:
        UserError: the preset is unknown, a preset is combined with the general form, or the numbers do not fit the stages.
        ArgumentTypeError: ``strides`` or ``dilations`` is not a sequence.
    """
    if dilation is not None:
        if dilation not in PRESETS:
            raise UserError(f'dilation must be None or one of {", ".join(map(repr, PRESETS))}, got {dilation!r}')
        if strides is not None or dilations is not None:
            raise UserError(f'dilation={dilation!r} already sets strides and dilations: give one or the other')
        strides = SEGMENTATION_STRIDES
        if dilation == 'full':
            dilations = (1, 1, 2, 4)
        else:
            plain = max(num_blocks[2] - FAST_DILATED_BLOCKS, 0)
            dilations = (1, 1, [1] * plain + [2] * (num_blocks[2] - plain), 4)
    strides = CLASSIFICATION_STRIDES if strides is None else strides
    dilations = (1, 1, 1, 1) if dilations is None else dilations
    for name, values in (('strides', strides), ('dilations', dilations)):
        if not isinstance(values, (tuple, list)):
            raise ArgumentTypeError(f'{name} must be a sequence of 4, one for each of the stages 2 to 5, got {values!r}')
        if len(values) != 4:
            raise UserError(f'{name} must have 4 entries, one for each of the stages 2 to 5, got {len(values)}: {values!r}')
    if any(not isinstance(stride, int) or stride not in (1, 2) for stride in strides):
        raise UserError(f'each stride must be 1 or 2, got {tuple(strides)}')
    return tuple(strides), tuple(_block_dilations(stage, blocks, values)
                                 for stage, (blocks, values) in enumerate(zip(num_blocks, dilations), start=2))


def _block_dilations(stage: int, num_blocks: int, values: int | Sequence[int]) -> tuple[int, ...]:
    if not isinstance(values, (int, tuple, list)):
        raise ArgumentTypeError(f'dilations of stage {stage} must be an integer or a sequence of them, got {values!r}')
    values = (values, ) * num_blocks if isinstance(values, int) else tuple(values)
    if len(values) != num_blocks:
        raise UserError(f'stage {stage} has {num_blocks} blocks, but dilations gives {len(values)}: {values}')
    if any(not isinstance(value, int) or value < 1 for value in values):
        raise UserError(f'dilations must be integers of at least 1, got {values} for stage {stage}')
    return values
