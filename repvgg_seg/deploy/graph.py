"""What is exported: a network from the pixels of an image file to logits, as one graph."""
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import ExportedProgram

from ..core.errors import UserError
from .comparison import Decision
from .normalization import Normalization

if TYPE_CHECKING:
    from mmengine.model import BaseModel
    from mmseg.models import EncoderDecoder

OPSET = 18
PROBE = 256  # Height and width of an image that shows how a segmentor computes.


class Graph(nn.Module):
    """A fused model with its normalization before it.

    Args:
        model: a fused model in float32, whose parts become parts of this module.
        normalization: what comes before the backbone.
        channels: order of the channels of the images that will be given, 'RGB' or 'BGR'.
        dtype: of backbone, neck and head. Everything else stays in float32.
    """

    mean: Tensor
    std: Tensor
    head: Any

    def __init__(self, model: 'BaseModel', normalization: Normalization, channels: str = 'RGB',
                 dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.flips = normalization.channels == 3 and (channels == 'RGB') != normalization.to_rgb
        for name, values in (('mean', normalization.mean or (0, )), ('std', normalization.std or (1, ))):
            self.register_buffer(name, torch.tensor(values).float().view(-1, 1, 1))
        self.backbone, self.neck = model.backbone, model.neck if model.with_neck else nn.Identity()
        self.head = self.head_of(model)
        for part in (self.backbone, self.neck, self.head):
            part.to(dtype)
        self.dtype = dtype

    def head_of(self, model: Any) -> nn.Module:
        """The part of a model that gives logits."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits.

        Args:
            images: uint8 (N, H, W, channels).

        Returns:
            Logits, float32 (N, C, H, W) of a segmentor and (N, C) of a classifier.
        """
        return self.logits(images.permute(0, 3, 1, 2).float())

    def logits(self, pixels: Tensor) -> Tensor:
        """Pixels, float32 (N, channels, H, W) from 0 to 255 -> logits, as :meth:`forward`."""
        x = pixels.flip(1) if self.flips else pixels
        x = ((x - self.mean) / self.std).to(self.dtype)
        return self.head(self.neck(self.backbone(x))).float()


class SegmentorGraph(Graph):
    """A fused ``EncoderDecoder`` of MMSegmentation, with resizing of the logits to the size of the image."""

    def __init__(self, model: 'EncoderDecoder', normalization: Normalization, channels: str = 'RGB',
                 dtype: torch.dtype = torch.float32) -> None:
        super().__init__(model, normalization, channels, dtype)
        self.align_corners = model.align_corners

    def head_of(self, model: Any) -> nn.Module:
        """The decode head."""
        return model.decode_head

    def logits(self, pixels: Tensor) -> Tensor:
        """See :meth:`Graph.logits`."""
        return F.interpolate(super().logits(pixels), size=pixels.shape[2:], mode='bilinear', align_corners=self.align_corners)


class ClassifierGraph(Graph):
    """A fused ``ImageClassifier`` of MMPretrain."""

    def head_of(self, model: Any) -> nn.Module:
        """The classifier's head."""
        return model.head


class LabelGraph(nn.Module):
    """A graph followed by the decision, in PyTorch.

    Args:
        graph: gives logits (N, C, ...).
        decision: how class indices follow from them.
    """

    def __init__(self, graph: nn.Module, decision: Decision) -> None:
        super().__init__()
        self.graph, self.decision = graph, decision

    def forward(self, images: Tensor) -> Tensor:
        """Images, uint8 (N, H, W, channels) -> class indices (N, ...)."""
        return self.decision.labels_of(self.graph(images))


class FloatPixels(nn.Module):
    """A graph for ncnn, which takes pixels as float32 (N, channels, H, W)."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, pixels: Tensor) -> Tensor:
        """See :meth:`Graph.logits`."""
        return self.graph.logits(pixels)


@contextmanager
def resize_without_warning() -> Iterator[None]:
    """Have every module call MMSegmentation's ``resize`` with ``warning=False``.

    Where it compares sizes to decide whether to warn, these become constants of what is traced.
    """
    from mmseg.models.utils import resize
    silent = partial(resize, warning=False)
    modules = [getattr(module, '__dict__', {}) for module in list(sys.modules.values())]
    places = [(names, name) for names in modules for name, value in list(names.items()) if value is resize]
    for names, name in places:
        names[name] = silent
    try:
        yield
    finally:
        for names, name in places:
            names[name] = resize


def fixed_size_error(name: str, reason: object) -> UserError:
    """The error about a part of a model that takes the size of the traced image for a constant."""
    return UserError(f'{name} computes with the size of the image as a constant ({reason}), so it can be exported for one size '
                     'only; give --size H W')


def check_open(program: ExportedProgram, example: Tensor, name: str) -> None:
    """Check that a program takes images of another size than the example's, (N, H, W, C).

    Args:
        program: what was exported.
        example: what it was traced with.
        name: what to call the head in the message.

    Raises:
        UserError: it does not.
    """
    height, width = example.shape[1:3]
    try:
        program.module()(example.new_zeros(2, 2 * height, 2 * width, example.shape[3]))
    except AssertionError as error:  # The program asserts its sizes before it computes.
        raise fixed_size_error(name, error) from None


@torch.no_grad()
def check_dynamic(segmentor: 'EncoderDecoder', channels: int) -> None:
    """Check that the head of a segmentor on the CPU can be exported for images of any size, with some number of channels.

    Raises:
        UserError: it has an ``nn.AdaptiveAvgPool2d`` to several cells, of which an exporter keeps the windows that it sees.
    """
    used: list[Any] = []
    hooks = [module.register_forward_pre_hook(lambda module, inputs: used.append(module.output_size))
             for module in segmentor.decode_head.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    segmentor.decode_head(segmentor.extract_feat(torch.zeros(1, channels, PROBE, PROBE)))
    for hook in hooks:
        hook.remove()
    if any(size not in (1, (1, 1)) for size in used):
        name = type(segmentor.decode_head).__name__
        instead = ', or use repvgg_seg.FactorizedPSPHead in its place, which takes its weights' if name == 'PSPHead' else ''
        raise UserError(f'{name} pools adaptively, which can be exported for one size only; give --size H W{instead}')


@torch.no_grad()
def stride_of(model: 'BaseModel', channels: int) -> int:
    """Pixels of an image, with some number of channels, for each pixel of the last map of a backbone on the CPU."""
    return PROBE // model.backbone(torch.zeros(1, channels, PROBE, PROBE))[-1].shape[-1]


@torch.no_grad()
def min_size(segmentor: 'EncoderDecoder', channels: int) -> int:
    """Smallest height and width, in pixels, at which every cell of the head's finest pyramid level has a place of its own.

    Args:
        segmentor: a segmentor on the CPU.
        channels: number of channels of its images.
    """
    stride = PROBE // segmentor.extract_feat(torch.zeros(1, channels, PROBE, PROBE))[-1].shape[-1]
    cells = max(getattr(segmentor.decode_head, 'pool_scales', (1, )))
    return (cells - 1) * stride + 1
