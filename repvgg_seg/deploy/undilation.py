"""Rewrite a model without dilated convolutions, for kernels (Winograd) and chips that only support plain 3x3 ones.

A convolution with stride 1 and dilation d never mixes pixels whose coordinates differ modulo d, so it is a plain convolution on
each of the d x d interleaved sub-grids of the feature map. The sub-grids are placed side by side in one mosaic, separated by
seams (rows and columns of zeros), which serve as their padding. Consecutive layers with the same dilation share a mosaic;
between layers, the seams and any cells that a smaller sub-grid leaves empty are reset to zero.
"""
import copy
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import UserError, some
from ..models.blocks import RepVGGBlock, SqueezeExcitation
from ..models.reparam import LinearPart
from ..models.repvgg import RepVGG
from .fusing import PLAIN_CONVS


def undilate(model: nn.Module) -> nn.Module:
    """Return a copy of a model in which no convolution has dilation above 1.

    The copy gives the same outputs for every height and width, and has the same state dict keys and weights. Fused RepVGG
    backbones are rewritten as a whole (:func:`undilate_backbones`); every other dilated convolution goes to a mosaic and back
    on its own (:class:`UndilatedConv2d`). A mosaic is larger than its feature map by d seams in each direction, and by up to
    d - 1 rows and columns if the sub-grids differ in size, so a large dilation on a small map costs more than it saves.

    Args:
        model: any model, e.g. a segmentor of MMSegmentation or torchvision.

    Raises:
        UserError: the model has no dilated convolution, a RepVGG backbone is not fused, or a dilated convolution changes the
            size of the map by more than its stride, pads with other values than zeros, or belongs to a subclass that computes
            something else.
    """
    plain = undilate_backbones(model) if any(_is_plain(module) for module in model.modules()) else copy.deepcopy(model)
    convs = [(name, parent, child, conv) for name, parent in plain.named_modules() for child, conv in parent.named_children()
             if isinstance(conv, nn.Conv2d) and max(conv.dilation) > 1]
    if isinstance(plain, nn.Conv2d) and max(plain.dilation) > 1:
        return UndilatedConv2d(plain)
    if not convs and not any(max(conv.dilation) > 1 for conv in model.modules() if isinstance(conv, nn.Conv2d)):
        raise UserError(f'{type(model).__name__} has no dilated convolution')
    if refused := [f'{name}.{child}'.removeprefix('.') for name, _, child, conv in convs if not _can_be_undilated(conv)]:
        raise UserError(f'{some(refused)}: only plain convolutions whose padding of zeros keeps the size (but for the stride) '
                        'can be rewritten without dilation')
    made: dict[nn.Conv2d, UndilatedConv2d] = {}  # A convolution may have several parents.
    for _, parent, child, conv in convs:
        setattr(parent, child, made.setdefault(conv, UndilatedConv2d(conv)))
    return plain


def _is_plain(module: nn.Module) -> bool:
    """Whether a module is a RepVGG backbone without shortcuts."""
    return isinstance(module, RepVGG) and all(isinstance(block, RepVGGBlock) for stage in module.stages
                                              for block in stage.children())


def _can_be_undilated(conv: nn.Conv2d) -> bool:
    same = tuple(dilation * (length - 1) // 2 for length, dilation in zip(conv.kernel_size, conv.dilation))
    return (f'{type(conv).__module__}.{type(conv).__qualname__}' in PLAIN_CONVS and conv.padding == same
            and conv.padding_mode == 'zeros' and all(length % 2 for length in conv.kernel_size))


class Axis(NamedTuple):
    """How an undilated convolution works along an axis.

    Args:
        before: the input is subsampled by this factor.
        dilation: number of sub-grids.
        seam: zeros between them.
        after: the output is subsampled by this factor.
    """
    before: int
    dilation: int
    seam: int
    after: int

    @classmethod
    def of(cls, length: int, stride: int, dilation: int) -> 'Axis':
        """Plan an axis of a kernel of this length. If the stride divides the dilation, only every stride-th pixel is read."""
        before, after = (stride, 1) if dilation % stride == 0 else (1, stride)
        rest = dilation // before
        return cls(before, rest, length // 2 if rest > 1 else 0, after)

    def cells(self, size: int) -> int:
        """Length of a sub-grid and its seam, for a map of this size."""
        return (size + self.dilation - 1) // self.dilation + self.seam


class UndilatedConv2d(nn.Conv2d):
    """Plain convolution on the mosaic of its input that computes what a dilated one does, with the same parameters.

    Args:
        conv: convolution of odd kernel size whose padding of zeros keeps the size of the map, up to the stride. Its parameters
            are shared.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        height, width = conv.kernel_size
        super().__init__(conv.in_channels, conv.out_channels, (height, width), padding=(height // 2, width // 2),
                         groups=conv.groups, bias=conv.bias is not None, device='meta')
        self.weight, self.bias = conv.weight, conv.bias
        self.train(conv.training)
        self.axes = tuple(map(Axis.of, conv.kernel_size, conv.stride, conv.dilation))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride))."""
        rows, columns = self.axes
        x = x[:, :, ::rows.before, ::columns.before]
        height, width = x.shape[2:]
        high, wide = rows.cells(height), columns.cells(width)
        x = F.pad(x, (0, columns.dilation * wide - width, 0, rows.dilation * high - height))
        x = super().forward(_interleave(x, (high, rows.dilation), (wide, columns.dilation)))
        x = _interleave(x, (rows.dilation, high), (columns.dilation, wide))
        return x[:, :, :height:rows.after, :width:columns.after]


def undilate_backbones(model: nn.Module) -> nn.Module:
    """Return a copy of a model in which no RepVGG backbone has a convolution with dilation above 1.

    Consecutive blocks of the same dilation share a mosaic.

    Args:
        model: fused backbone, or a model that contains one.

    Raises:
        UserError: the model contains no RepVGG, or one that has shortcuts or is not fused.
    """
    model = copy.deepcopy(model)
    if isinstance(model, RepVGG):
        return UndilatedRepVGG(model)
    backbones = [(parent, name, child) for parent in model.modules() for name, child in parent.named_children()
                 if isinstance(child, RepVGG)]
    if not backbones:
        raise UserError(f'{type(model).__name__} has no RepVGG backbone whose dilation could be removed')
    for parent, name, child in backbones:
        setattr(parent, name, UndilatedRepVGG(child))
    return model


class Mosaic(NamedTuple):
    """Layout of a feature map in a mosaic.

    Args:
        height, width: size of the feature map in pixels.
        dilation: dilation d, at least 2.
    """
    height: int
    width: int
    dilation: int

    @property
    def cells(self) -> tuple[int, int]:
        """Height and width of the largest sub-grid, including its seam."""
        rows, columns = ((size + self.dilation - 1) // self.dilation + 1 for size in (self.height, self.width))
        return rows, columns

    def lay(self, x: Tensor) -> Tensor:
        """Convert a feature map (N, C, height, width) to a mosaic (N, C, d * cells[0], d * cells[1]) with zero-filled seams."""
        (rows, columns), d = self.cells, self.dilation
        x = F.pad(x, (0, d * columns - self.width, 0, d * rows - self.height))
        return _interleave(x, (rows, d), (columns, d))

    def lift(self, x: Tensor) -> Tensor:
        """Convert a mosaic, whose seams may hold any values, back to the feature map."""
        (rows, columns), d = self.cells, self.dilation
        return _interleave(x, (d, rows), (d, columns))[:, :, :self.height, :self.width]

    def pixels(self, x: Tensor) -> Tensor:
        """Mask (1, 1, ...) of a mosaic, in the dtype and on the device of ``x``: 1 at pixels, 0 in seams and empty cells."""
        rows, columns = (self._inside(size, cells, x) for size, cells in zip((self.height, self.width), self.cells))
        return rows.reshape(1, 1, -1, 1) * columns

    def _inside(self, size: int, cells: int, like: Tensor) -> Tensor:
        """Mask of an axis of a mosaic: whether the feature map, which has ``size`` pixels, continues there."""
        places = torch.arange(cells * self.dilation, dtype=torch.float32, device=like.device)
        return (places.reshape(cells, self.dilation).t().reshape(-1) < size).to(like.dtype)


class Step(NamedTuple):
    """Execution plan of a block: subsample the input by ``before``, convolve (in a mosaic if ``dilation`` is above 1), and
    subsample the output by ``after``."""
    before: int
    dilation: int
    after: int


class UndilatedRepVGG(nn.Module):
    """Fused RepVGG without dilation, as :func:`undilate_backbones` returns it.

    Args:
        backbone: fused backbone; its blocks are reused and modified.
    """

    def __init__(self, backbone: RepVGG) -> None:
        super().__init__()
        if not all(isinstance(block, RepVGGBlock) for stage in backbone.stages for block in stage.children()):
            raise UserError(f'{type(backbone).__name__} is not a plain stack of blocks, whose dilation could be removed')
        if any(isinstance(module, LinearPart) for module in backbone.modules()):
            raise UserError('the backbone is not fused; give undilate() what repvgg_seg.deploy.fuse() returns')
        self.stem, self.stages = backbone.stem, backbone.stages
        self.out_indices, self.out_channels = backbone.out_indices, backbone.out_channels
        self.steps = [[_remove_dilation(block) for block in _blocks(stage)] for stage in self.stages]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute feature maps, like :meth:`repvgg_seg.models.RepVGG.forward`."""
        x = self.stem(x)
        mosaic = None
        outputs = []
        for index, (stage, steps) in enumerate(zip(self.stages, self.steps)):
            for block, step in zip(_blocks(stage), steps):
                x, mosaic = _enter(x, mosaic, step)
                x, mosaic = _run(block, x, mosaic, step)
            if index in self.out_indices:
                outputs.append(mosaic.lift(x) if mosaic else x)
        return tuple(outputs)


def _blocks(stage: nn.Module) -> list[RepVGGBlock]:
    return [block for block in stage.children() if isinstance(block, RepVGGBlock)]


def _remove_dilation(block: RepVGGBlock) -> Step:
    """Make the convolution of a fused block a plain one, and return the plan for executing it."""
    conv: Any = block.conv
    stride, dilation = conv.stride[0], conv.dilation[0]
    if dilation == 1:
        return Step(1, 1, 1)
    conv.stride, conv.dilation, conv.padding = (1, 1), (1, 1), (1, 1)
    # If the stride divides the dilation, only every stride-th pixel is ever read.
    return Step(stride, dilation // stride, 1) if dilation % stride == 0 else Step(1, dilation, stride)


def _enter(x: Tensor, mosaic: Mosaic | None, step: Step) -> tuple[Tensor, Mosaic | None]:
    """Convert the output of a block to the layout that the next block is computed in."""
    if mosaic and (step.before, step.dilation) == (1, mosaic.dilation):
        return x * mosaic.pixels(x), mosaic
    if mosaic:
        x = mosaic.lift(x)
    x = _every(x, step.before)
    if step.dilation == 1:
        return x, None
    mosaic = Mosaic(x.shape[2], x.shape[3], step.dilation)
    return mosaic.lay(x), mosaic


def _run(block: RepVGGBlock, x: Tensor, mosaic: Mosaic | None, step: Step) -> tuple[Tensor, Mosaic | None]:
    """Compute a block. In a mosaic, the seams of the output hold arbitrary values."""
    x = block.conv(x)
    if mosaic and step.after > 1:
        x, mosaic = _every(mosaic.lift(x), step.after), None
    if mosaic and isinstance(block.se, SqueezeExcitation):
        mean = (x * mosaic.pixels(x)).sum((2, 3), keepdim=True) / (mosaic.height * mosaic.width)
        return block.act(block.se.scale(x, mean)), mosaic
    return block.act(block.se(x)), mosaic


def _every(x: Tensor, step: int) -> Tensor:
    return x if step == 1 else x[:, :, ::step, ::step]


def _interleave(x: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """Reshape the rows and the columns to matrices of the given shapes and transpose them: (N, C, H, W) -> (N, C, H, W)."""
    batch, channels, height, width = x.shape
    # Use at most four axes (with the batch folded in), because some runtimes do not support more.
    x = x.reshape(-1, *rows, width).transpose(1, 2)
    x = x.reshape(-1, height, *columns).transpose(2, 3)
    return x.reshape(batch, channels, height, width)
