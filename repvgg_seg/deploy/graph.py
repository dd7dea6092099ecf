"""The graph that is exported: the whole network, from the pixels of an image to logits."""
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
PROBE = 256  # Height and width of the image with which properties of a model are probed.


class Graph(nn.Module):
    """A fused model preceded by its normalization.

    Args:
        model: fused model in float32; its modules become submodules of the graph.
        normalization: normalization to apply before the backbone.
        channels: channel order of the input images, 'RGB' or 'BGR'.
        dtype: dtype of backbone, neck, and head. Everything else stays in float32.
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
        """Return the part of a model that computes logits."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits.

        Args:
            images: images, uint8 or uint16 (N, H, W, channels).

        Returns:
            Logits in float32: (N, C, H, W) from a segmentor, (N, C) from a classifier.
        """
        return self.logits(images.float().permute(0, 3, 1, 2))  # First, because TensorRT only casts integers of 8 bits.

    def logits(self, pixels: Tensor) -> Tensor:
        """Compute logits, as :meth:`forward` does, from pixels: float32 (N, channels, H, W) in the range 0 to 255."""
        return self.head(self.neck(self.backbone(self.normalized(pixels).to(self.dtype)))).float()

    def normalized(self, pixels: Tensor) -> Tensor:
        """Normalize pixels, see :meth:`logits`."""
        # Not flip(), because OpenCV misreads the negative step that it has in ONNX.
        x = torch.cat(pixels.split(1, dim=1)[::-1], dim=1) if self.flips else pixels
        return (x - self.mean) / self.std


class SegmentorGraph(Graph):
    """A fused ``EncoderDecoder`` of MMSegmentation that resizes its logits to the size of the image."""

    def __init__(self, model: 'EncoderDecoder', normalization: Normalization, channels: str = 'RGB',
                 dtype: torch.dtype = torch.float32) -> None:
        super().__init__(model, normalization, channels, dtype)
        self.align_corners = model.align_corners

    def head_of(self, model: Any) -> nn.Module:
        """Return the decode head."""
        return model.decode_head

    def logits(self, pixels: Tensor) -> Tensor:
        """See :meth:`Graph.logits`."""
        return F.interpolate(super().logits(pixels), size=pixels.shape[2:], mode='bilinear', align_corners=self.align_corners)


class ClassifierGraph(Graph):
    """A fused ``ImageClassifier`` of MMPretrain."""

    def head_of(self, model: Any) -> nn.Module:
        """Return the classifier's head."""
        return model.head


class LabelGraph(nn.Module):
    """A PyTorch graph that returns class indices instead of logits.

    Args:
        graph: graph that returns logits (N, C, ...).
        decision: rule that converts the logits to class indices.
    """

    def __init__(self, graph: nn.Module, decision: Decision) -> None:
        super().__init__()
        self.graph, self.decision = graph, decision

    def forward(self, images: Tensor) -> Tensor:
        """Compute class indices (N, ...) of images, uint8 (N, H, W, channels)."""
        return self.decision.labels_of(self.graph(images))


class FloatPixels(nn.Module):
    """A graph for ncnn, whose input is float32 pixels (N, channels, H, W)."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.network = graph

    def forward(self, pixels: Tensor) -> Tensor:
        """See :meth:`Graph.logits`."""
        return self.network.logits(pixels)


@contextmanager
def resize_without_warning() -> Iterator[None]:
    """Make every module call MMSegmentation's ``resize`` with ``warning=False``.

    Otherwise ``resize`` compares sizes to decide whether to warn, which turns them into constants of the traced graph.
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
    """Create the error for a part of a model that treats the size of the traced image as a constant."""
    return UserError(f'{name} computes with the size of the image as a constant ({reason}), so it can be exported for one size '
                     'only; give --size H W')


def check_open(program: ExportedProgram, example: Tensor, name: str) -> None:
    """Check that a program takes images of a different size than the example.

    Args:
        program: exported program.
        example: images that the program was traced with, (N, H, W, C).
        name: name of the head for the error message.

    Raises:
        UserError: the program takes only images of the example's size.
    """
    height, width = example.shape[1:3]
    try:
        program.module()(example.new_zeros(2, 2 * height, 2 * width, example.shape[3]))
    except AssertionError as error:  # The program asserts its input sizes before it computes.
        raise fixed_size_error(name, error) from None


@torch.no_grad()
def check_dynamic(segmentor: 'EncoderDecoder', channels: int) -> None:
    """Check that the head of a segmentor can be exported for images of any size.

    Args:
        segmentor: segmentor on the CPU.
        channels: number of channels of its images.

    Raises:
        UserError: the head has an ``nn.AdaptiveAvgPool2d`` with several output cells, whose windows an exporter fixes to those
            of the traced image.
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
    """Stride, in pixels, of the last feature map of a model's backbone.

    Args:
        model: model on the CPU.
        channels: number of channels of its images.
    """
    return PROBE // model.backbone(torch.zeros(1, channels, PROBE, PROBE))[-1].shape[-1]


@torch.no_grad()
def min_size(segmentor: 'EncoderDecoder', channels: int) -> int:
    """Smallest height and width, in pixels, at which each cell of the head's finest pyramid level covers a different location.

    Args:
        segmentor: segmentor on the CPU.
        channels: number of channels of its images.
    """
    stride = PROBE // segmentor.extract_feat(torch.zeros(1, channels, PROBE, PROBE))[-1].shape[-1]
    cells = max(getattr(segmentor.decode_head, 'pool_scales', (1, )))
    return (cells - 1) * stride + 1
