"""The architectures of the paper (Tables 2 and 3) and of its repository (D2se) as data."""
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

from ..core.errors import ArgumentTypeError, UserError

BASE_WIDTHS = (64, 128, 256, 512)
SE_RATIO = 16  # Ratio of a block's channels to the channels between the two layers of its squeeze-and-excitation.


@dataclass(frozen=True)
class RepVGGArch:
    """Size of a RepVGG body.

    Args:
        num_blocks: number of blocks in each of the paper's stages 2 to 5 (stage 1, the stem, is one block).
        width_factors: multipliers of the base widths 64, 128, 256, 512 of these stages; the stem has min(64, 64 * first)
            channels.
        groups: number of groups of the groupwise layers, which are the 3rd, 5th, 7th ... layer of the network, counting the
            stem as the 1st.
        use_se: whether every block has squeeze-and-excitation.
        layer_widths: for each of the stages 1 to 5 the numbers of channels of its layers, for networks whose layers differ in
            width, such as pruned ones. The first two arguments are then derived, see :meth:`of_layers`. None: all layers of a
            stage are equally wide.

    Neighboring stages should differ in width, as in the paper. If two are equally wide, the first block of the second one has
    an identity branch with stride 1 but not with stride 2, so that weights do not carry over to another ``dilation``.
    """
    num_blocks: tuple[int, ...]
    width_factors: tuple[float, ...]
    groups: int = 1
    use_se: bool = False
    layer_widths: tuple[tuple[int, ...], ...] | None = None

    @classmethod
    def of_layers(cls, layer_widths: Sequence[Sequence[int]], groups: int = 1, use_se: bool = False) -> 'RepVGGArch':
        """Build an architecture from the numbers of channels of its layers, given for each of the stages 1 to 5.

        Raises:
            UserError: a width is not a positive integer, or the stages are not five, the first of one layer.
        """
        stages = [tuple(stage) if isinstance(stage, (tuple, list)) else () for stage in (
            layer_widths if isinstance(layer_widths, (tuple, list)) else ())]
        if [len(stage) > 0 for stage in stages] != [True] * 5 or len(stages[0]) > 1 or not all(
                isinstance(width, int) and width > 0 for stage in stages for width in stage):
            raise UserError('arch layer_widths must be positive integers for each layer of the stages 1 to 5, of which the '
                            f'first has one layer, got {layer_widths!r}')
        factors = tuple(stage[-1] / base for stage, base in zip(stages[1:], BASE_WIDTHS))
        return cls(tuple(map(len, stages[1:])), factors, groups, use_se, tuple(stages))

    def __post_init__(self) -> None:
        for name in ('num_blocks', 'width_factors'):
            values = getattr(self, name)
            kinds = int if name == 'num_blocks' else (int, float)
            if not isinstance(values, (tuple, list)) or len(values) != 4 or any(
                    not isinstance(value, kinds) or value <= 0 for value in values):
                raise UserError(f'arch {name} must be 4 positive numbers, one for each of the stages 2 to 5, got {values!r}')
            object.__setattr__(self, name, tuple(values))
        groups = self.groups
        widths = sum(self.layer_widths, ()) if self.layer_widths else (self.stem_width, *self.stage_widths)
        if not isinstance(groups, int) or groups < 1 or any(width < 1 or width % groups for width in widths):
            raise UserError(f'arch groups must be a positive integer that divides the widths {widths}, got {groups!r}')
        if self.use_se and min(widths) < SE_RATIO:
            raise UserError(f'arch use_se needs at least {SE_RATIO} channels in every stage, got widths {widths}')

    @property
    def stem_width(self) -> int:
        """Number of channels of the stem (stage 1)."""
        return self.layer_widths[0][0] if self.layer_widths else min(64, self.stage_widths[0])

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """Numbers of channels that stages 2 to 5 return."""
        if self.layer_widths:
            return tuple(stage[-1] for stage in self.layer_widths[1:])
        return tuple(int(base * factor) for base, factor in zip(BASE_WIDTHS, self.width_factors))

    @property
    def widths(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of channels of every layer, for each of the stages 1 to 5."""
        return self.layer_widths or ((self.stem_width, ), *(
            (width, ) * blocks for width, blocks in zip(self.stage_widths, self.num_blocks)))

    def layer_groups(self) -> Iterator[int]:
        """Number of groups of each layer in order, starting with the stem."""
        for layer in range(1, 2 + sum(self.num_blocks)):
            yield self.groups if layer >= 3 and layer % 2 == 1 else 1


_A, _B = (2, 4, 14, 1), (4, 6, 16, 1)
ARCHS: dict[str, RepVGGArch] = {
    'A0': RepVGGArch(_A, (0.75, 0.75, 0.75, 2.5)),
    'A1': RepVGGArch(_A, (1, 1, 1, 2.5)),
    'A2': RepVGGArch(_A, (1.5, 1.5, 1.5, 2.75)),
    'B0': RepVGGArch(_B, (1, 1, 1, 2.5)),
    'B1': RepVGGArch(_B, (2, 2, 2, 4)),
    'B1g2': RepVGGArch(_B, (2, 2, 2, 4), groups=2),
    'B1g4': RepVGGArch(_B, (2, 2, 2, 4), groups=4),
    'B2': RepVGGArch(_B, (2.5, 2.5, 2.5, 5)),
    'B2g2': RepVGGArch(_B, (2.5, 2.5, 2.5, 5), groups=2),
    'B2g4': RepVGGArch(_B, (2.5, 2.5, 2.5, 5), groups=4),
    'B3': RepVGGArch(_B, (3, 3, 3, 5)),
    'B3g2': RepVGGArch(_B, (3, 3, 3, 5), groups=2),
    'B3g4': RepVGGArch(_B, (3, 3, 3, 5), groups=4),
    'D2se': RepVGGArch((8, 14, 24, 1), (2.5, 2.5, 2.5, 5), use_se=True),
}


def get_arch(arch: str | Mapping | RepVGGArch) -> RepVGGArch:
    """Look up an architecture by name, or build one from a dict with the fields of :class:`RepVGGArch`.

    With ``layer_widths``, the dict has neither ``num_blocks`` nor ``width_factors``.

    Raises:
        UserError: the name is unknown, or the fields are wrong.
        ArgumentTypeError: the argument is neither a name nor a dict.
    """
    if isinstance(arch, RepVGGArch):
        return arch
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise UserError(f'unknown arch {arch!r}, expected one of {", ".join(ARCHS)} or a dict')
        return ARCHS[arch]
    if not isinstance(arch, Mapping):
        raise ArgumentTypeError(f'arch must be a name or a dict, got {type(arch).__name__}')
    if 'layer_widths' in arch and arch['layer_widths'] is None:  # As dataclasses.asdict() gives it.
        arch = {name: value for name, value in arch.items() if name != 'layer_widths'}
    if 'layer_widths' in arch:
        if unknown := set(arch) - {'layer_widths', 'groups', 'use_se'}:
            raise UserError('an arch dict with layer_widths has only groups and use_se besides, got '
                            f'{", ".join(sorted(unknown))}')
        return RepVGGArch.of_layers(**arch)
    allowed = [field.name for field in fields(RepVGGArch) if field.name != 'layer_widths']
    if not {'num_blocks', 'width_factors'} <= set(arch) <= set(allowed):
        raise UserError(f'an arch dict has the fields {", ".join(allowed)} (the first two required), got {", ".join(arch)}')
    return RepVGGArch(**arch)
