"""What is exported: a segmentor from the pixels of an image file to class indices, as one graph."""
import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.onnx import ONNXProgram

from ..errors import UserError
from .agreement import classes_of, threshold_of
from .ncnn_program import NcnnProgram, convert
from .normalization import Normalization

OPSET = 18
PROBE = 256  # Height and width of an image that shows how a segmentor computes.


class SegmentorGraph(nn.Module):
    """A fused segmentor with its normalization before it, and resizing and argmax after it.

    Args:
        segmentor: a fused ``EncoderDecoder`` of MMSegmentation in float32; its backbone and head become part of this module.
        normalization: what comes before the backbone.
        channels: order of the channels of the images that will be given, 'RGB' or 'BGR'.
        output: 'labels' or 'logits'.
        dtype: of backbone and head. Normalization, resizing and argmax stay in float32.
    """

    def __init__(self, segmentor: nn.Module, normalization: Normalization, channels: str = 'RGB', output: str = 'labels',
                 dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.flips = normalization.channels == 3 and (channels == 'RGB') != normalization.to_rgb
        for name, values in (('mean', normalization.mean or (0, )), ('std', normalization.std or (1, ))):
            self.register_buffer(name, torch.tensor(values).float().view(-1, 1, 1))
        self.backbone, self.neck = segmentor.backbone, segmentor.neck if segmentor.with_neck else nn.Identity()
        self.head = segmentor.decode_head
        for part in (self.backbone, self.neck, self.head):
            part.to(dtype)
        self.align_corners, self.output, self.dtype = segmentor.align_corners, output, dtype
        self.threshold = threshold_of(segmentor)

    def forward(self, images: Tensor) -> Tensor:
        """Segment images.

        Args:
            images: uint8 (N, H, W, channels).

        Returns:
            Class indices, uint8 (N, H, W), or logits, float32 (N, C, H, W).
        """
        logits = self.logits(images.permute(0, 3, 1, 2).float())
        return logits if self.output == 'logits' else classes_of(logits, self.threshold).to(torch.uint8)

    def logits(self, pixels: Tensor) -> Tensor:
        """Pixels, float32 (N, channels, H, W) from 0 to 255 -> logits, float32 (N, C, H, W)."""
        x = pixels.flip(1) if self.flips else pixels
        x = ((x - self.mean) / self.std).to(self.dtype)
        logits = self.head(self.neck(self.backbone(x))).float()
        return F.interpolate(logits, size=pixels.shape[2:], mode='bilinear', align_corners=self.align_corners)


class GraphExporter:
    """Programs of a segmentor for uint8 images (N, H, W, channels) with any N; each is made once.

    Args:
        segmentor, normalization, channels: see :class:`SegmentorGraph`; the segmentor is copied.
        size: H and W of the example that is traced, and of all images unless ``dynamic``.
        dynamic: leave H and W open.
    """

    def __init__(self, segmentor: nn.Module, normalization: Normalization, channels: str, size: tuple[int, int],
                 dynamic: bool) -> None:
        self.segmentor, self.normalization, self.channels = segmentor, normalization, channels
        self.size, self.dynamic = size, dynamic
        self.programs: dict[tuple[str, torch.dtype], ExportedProgram] = {}
        self.onnx_programs: dict[str, ONNXProgram] = {}
        self.ncnn_programs: dict[bool, NcnnProgram] = {}

    def graph(self, output: str, dtype: torch.dtype = torch.float32) -> SegmentorGraph:
        """As PyTorch's module."""
        return SegmentorGraph(copy.deepcopy(self.segmentor), self.normalization, self.channels, output, dtype).eval()

    def program(self, output: str, dtype: torch.dtype = torch.float32) -> ExportedProgram:
        """As PyTorch's exported program.

        Raises:
            UserError: any H and W are asked for, but the segmentor computes with those of the example as constants.
        """
        if (output, dtype) not in self.programs:
            graph = self.graph(output, dtype)
            # A batch of 1 would be taken for a constant.
            example = torch.zeros(2, *self.size, self.normalization.channels, dtype=torch.uint8)
            shape = dict.fromkeys(range(3) if self.dynamic else [0], Dim.DYNAMIC)
            with torch.no_grad(), open_sizes():
                self.programs[output, dtype] = torch.export.export(graph, (example, ), dynamic_shapes=(shape, ))
                if self.dynamic:
                    check_open(self.programs[output, dtype], example, self.segmentor)
        return self.programs[output, dtype]

    def onnx(self, output: str) -> ONNXProgram:
        """As ONNX, in float32."""
        if output not in self.onnx_programs:
            self.onnx_programs[output] = torch.onnx.export(
                self.program(output), dynamo=True, opset_version=OPSET, verbose=False, input_names=['images'],
                output_names=[output])
        return self.onnx_programs[output]

    def ncnn(self, output: str) -> NcnnProgram:
        """For ncnn, in float32, which gives logits, labels being their argmax; one image of the example's size at a time."""
        graph = self.graph(output)
        scores = output == 'labels' and graph.threshold is not None
        if scores not in self.ncnn_programs:
            self.ncnn_programs[scores] = convert(FloatPixels(graph, scores), (self.normalization.channels, *self.size))
        return self.ncnn_programs[scores]


class FloatPixels(nn.Module):
    """A segmentor for what ncnn makes of an image, and without argmax, which ncnn does not have.

    Args:
        graph: of which normalization, network and resizing are used.
        scores: give, of the logits of one channel, the threshold and the sigmoid, whose argmax is the class.
    """

    def __init__(self, graph: SegmentorGraph, scores: bool) -> None:
        super().__init__()
        self.graph, self.scores = graph, scores

    def forward(self, pixels: Tensor) -> Tensor:
        """See :meth:`SegmentorGraph.logits`."""
        logits = self.graph.logits(pixels)
        if not self.scores:
            return logits
        probability = logits.sigmoid()
        return torch.cat([probability * 0 + self.graph.threshold, probability], 1)


@contextmanager
def open_sizes() -> Iterator[None]:
    """Keep MMSegmentation's ``resize`` from looking whether to warn of sizes, which makes them constants of what is traced."""
    from mmseg.models.utils import resize
    defaults = resize.__defaults__
    resize.__defaults__ = (*defaults[:-1], False)  # Of its last parameter, ``warning``.
    try:
        yield
    finally:
        resize.__defaults__ = defaults


def check_open(program: ExportedProgram, example: Tensor, segmentor: nn.Module) -> None:
    """Check that a program takes images of another size than the example's, (N, H, W, C).

    Raises:
        UserError: it does not.
    """
    height, width = example.shape[1:3]
    try:
        program.module()(example.new_zeros(2, 2 * height, 2 * width, example.shape[3]))
    except AssertionError as error:  # What is asserted of sizes stands in front of the program.
        raise UserError(f'{type(segmentor.decode_head).__name__} computes with the size of the image as a constant ({error}), '
                        'so it can be exported for one size only; give --size H W') from None


def check_exportable(segmentor: nn.Module, preprocessor: Mapping) -> None:
    """Check that :class:`SegmentorGraph` computes what a segmentor and its preprocessor do.

    Raises:
        UserError: it does not: another kind of segmentor, or images that are padded.
    """
    if type(segmentor).__name__ != 'EncoderDecoder':
        raise UserError(f'only an EncoderDecoder can be exported, got {type(segmentor).__name__}; --formats pth can be written')
    if preprocessor.get('test_cfg'):
        raise UserError(f'images that the preprocessor pads cannot be exported, got test_cfg={dict(preprocessor["test_cfg"])}; '
                        'remove data_preprocessor.test_cfg')


@torch.no_grad()
def check_dynamic(segmentor: nn.Module, channels: int) -> None:
    """Check that the head of a segmentor on the CPU can be exported for images of any size, with some number of channels.

    Raises:
        UserError: it has an ``nn.AdaptiveAvgPool2d`` to several cells, of which an exporter keeps the windows that it sees.
    """
    used = []
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
def min_size(segmentor: nn.Module, channels: int) -> int:
    """Smallest height and width, in pixels, at which every cell of the head's finest pyramid level has a place of its own.

    Args:
        segmentor: on the CPU.
        channels: of its images.
    """
    stride = PROBE // segmentor.extract_feat(torch.zeros(1, channels, PROBE, PROBE))[-1].shape[-1]
    cells = max(getattr(segmentor.decode_head, 'pool_scales', (1, )))
    return (cells - 1) * stride + 1
