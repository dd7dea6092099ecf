"""What a segmentor can be exported to: formats, precisions, what writes them, and what is recorded of a file."""
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from ..errors import InstallationError, UserError
from ..files import telling_full_disk
from .graph import GraphExporter
from .quantization import quantize_onnx, quantize_openvino
from .runtime import pair


@dataclass(frozen=True)
class Precision:
    """In what convolutions are computed.

    Args:
        dtype: of an exported program; None for 8 bits.
        logit_limit: largest difference of logits from the trained model that is let through, relative to the largest logit.
        changed_limit: largest share of pixels whose class changes.
    """
    dtype: torch.dtype | None
    logit_limit: float
    changed_limit: float


PRECISIONS = {
    'fp32': Precision(torch.float32, 1e-3, 1e-3),
    'fp16': Precision(torch.float16, 0.02, 0.01),
    'bf16': Precision(torch.bfloat16, 0.1, 0.05),
    'int8': Precision(None, 0.5, 0.05),
}


@dataclass(frozen=True)
class ExportRequest:
    """What to write.

    Args:
        formats: keys of ``FORMATS``, or 'pth' for the fused weights with their config.
        precisions: keys of ``PRECISIONS``. Each format is written in those that it supports.
        size: height and width of the images that artefacts take; None for any.
        channels: order of the channels of these images, 'RGB' or 'BGR'.
        logits: return logits, float32 (N, C, H, W), instead of class indices, uint8 (N, H, W).
        undilate: whether RepVGG is written without dilated convolutions, see :func:`repvgg_seg.deploy.undilate`; None: for the
            formats that gain from it.

    Raises:
        UserError: ``size`` is something other than two integers or None.
    """
    formats: tuple[str, ...] = ('pth', )
    precisions: tuple[str, ...] = ('fp32', )
    size: tuple[int, int] | None = None
    channels: str = 'RGB'
    logits: bool = False
    undilate: bool | None = None

    def __post_init__(self) -> None:
        if self.size is not None:
            object.__setattr__(self, 'size', pair(self.size, 'size must be height and width, or None'))


@dataclass
class Artefact:
    """A written file and how it was checked."""
    format: str
    precision: str
    size: tuple[int, int] | None
    output: str
    logit_difference: float
    changed: float
    miou: float | None  # In per cent, of the test set; None where it was not evaluated.
    undilated: bool
    higher_precision: list[str]  # Of an int8 file: convolutions that are not in 8 bits.
    bytes: int
    sha256: str


def write_pt2(exporter: GraphExporter, output: str, precision: str, path: Path) -> None:
    """Write a file for ``torch.export.load``."""
    buffer = io.BytesIO()  # PyTorch ends the process where it finds the disk full itself.
    torch.export.save(exporter.program(output, PRECISIONS[precision].dtype), buffer)
    path.write_bytes(buffer.getbuffer())


def write_onnx(exporter: GraphExporter, output: str, precision: str, path: Path) -> None:
    """Write ONNX, weights included."""
    exporter.onnx(output).save(path)


def write_openvino(exporter: GraphExporter, output: str, precision: str, path: Path) -> None:
    """Write OpenVINO's ``.xml`` and ``.bin``. It rounds to 16 bits by itself; then the weights are kept in 16 bits."""
    import openvino
    onnx_path = path.with_name(f'{path.name}.onnx')
    try:
        exporter.onnx(output).save(onnx_path)
        with telling_full_disk(path, onnx_path.stat().st_size):
            openvino.save_model(openvino.convert_model(onnx_path), path, compress_to_fp16=precision != 'fp32')
    finally:
        onnx_path.unlink(missing_ok=True)


def write_ncnn(exporter: GraphExporter, output: str, precision: str, path: Path) -> None:
    """Write ncnn's ``.param`` and ``.bin``, which are the same for all precisions."""
    exporter.ncnn(output).save(path, output)


@dataclass(frozen=True)
class Format:
    """A file format.

    Args:
        suffix: of the file.
        precisions: that it supports.
        write: writes it, but for int8.
        packages: that are needed for that.
        quantize: writes it in int8, see :class:`repvgg_seg.deploy.quantization.Quantizer`.
        quantize_packages: that are needed for that too.
        any_size: whether H and W of the images can be left open.
        undilate: whether it is faster without dilated convolutions.
    """
    suffix: str
    precisions: tuple[str, ...]
    write: Callable[[GraphExporter, str, str, Path], None] | None
    packages: tuple[str, ...] = ()
    quantize: Callable[[Path, Path, Sequence, Sequence[str]], None] | None = None
    quantize_packages: tuple[str, ...] = ()
    any_size: bool = True
    undilate: bool = False

CANNOT_EXPORT = (2, 6)  # PyTorch, and what is older; what is between this and 2.14 has not been tried.

FORMATS = {
    'pth': Format('.pth', ('fp32', ), None),
    'onnx': Format('.onnx', ('fp32', 'int8'), write_onnx, ('onnx', 'onnxscript', 'onnxruntime'), quantize_onnx),
    'openvino': Format('.xml', ('fp32', 'fp16', 'bf16', 'int8'), write_openvino, ('onnx', 'onnxscript', 'openvino'),
                       quantize_openvino, ('nncf', )),
    'pt2': Format('.pt2', ('fp32', 'fp16', 'bf16'), write_pt2),
    'ncnn': Format('.ncnn.param', ('fp32', 'bf16'), write_ncnn, ('ncnn', 'pnnx'), any_size=False, undilate=True),
}


def check_request(request: ExportRequest) -> None:
    """Check that everything that is asked for can be written here.

    Raises:
        UserError: a format, a precision or an order of channels does not exist, no format has a precision or can be rewritten,
            a format has none of the precisions or needs a size, the CPU cannot compute in a precision, so that it could not be
            checked, or this PyTorch cannot export.
        InstallationError: a package is missing.
    """
    for name, given, known in (('formats', request.formats, FORMATS), ('precisions', request.precisions, PRECISIONS),
                               ('channels', [request.channels], ('RGB', 'BGR'))):
        if isinstance(given, str) or not given or not set(given) <= set(known):
            raise UserError(f'{name} must be among {", ".join(known)}, got {given!r}')
    if request.undilate and set(request.formats) == {'pth'}:
        raise UserError('fused weights are written as they were trained, with dilation; --undilate on needs --formats '
                        'besides pth')
    if set(request.formats) == {'pth'} and (request.logits or request.channels != 'RGB'):
        raise UserError('fused weights are used by MMSegmentation, which gives logits and reads images as it is configured; '
                        '--logits and --channels need --formats besides pth')
    for precision in request.precisions:
        if not any(precision in FORMATS[name].precisions for name in request.formats):
            able = [name for name, entry in FORMATS.items() if precision in entry.precisions]
            raise UserError(f'{" and ".join(request.formats)} cannot be written in {precision}; --formats {" or ".join(able)} '
                            'can')
        if precision not in (native := native_precisions()):
            raise UserError(f'this CPU cannot compute in {precision}, so the file could not be checked here; use --precision '
                            f'{" or ".join(native)}, or export on a CPU that can')
    if set(request.formats) != {'pth'} and tuple(map(int, torch.__version__.split('.')[:2])) <= CANNOT_EXPORT:
        raise UserError(f'torch {torch.__version__} cannot export these models; use 2.14 or newer, with which that is tested, '
                        'or leave --formats out')
    for name in request.formats:
        entry = FORMATS[name]
        if not set(entry.precisions) & set(request.precisions):
            raise UserError(f'{name} can be written in {" or ".join(entry.precisions)}, not in '
                            f'{" or ".join(request.precisions)}')
        if request.size is None and not entry.any_size:
            raise UserError(f'{name} takes images of one size; give --size H W')
        packages = entry.packages + (entry.quantize_packages if 'int8' in request.precisions else ())
        if missing := [package for package in packages if find_spec(package) is None]:
            raise InstallationError(f"{name} needs {', '.join(missing)}; run: pip install 'repvgg_seg[export]'")


def native_precisions() -> list[str]:
    """Keys of ``PRECISIONS`` in which this CPU computes, rather than in another in its place."""
    if not torch.backends.mkldnn.is_available():  # What tells of the others is not there either.
        return ['fp32', 'int8']
    lacking = {'bf16': not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
               'fp16': not torch.ops.mkldnn._is_mkldnn_fp16_supported()}
    return [name for name in PRECISIONS if not lacking.get(name)]
