"""Writing a fused segmentor in the formats that other programs run, each checked against the trained model."""
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..errors import InstallationError, UserError
from .agreement import as_batch, compare, logits_of, timing
from .graph import GraphExporter, check_dynamic, check_exportable, min_size
from .runtime import load_file

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16}
# Largest difference of logits, relative to the largest, and largest share of pixels whose class changes.
ARTEFACT_LIMITS = {'fp32': (1e-3, 1e-3), 'bf16': (0.1, 0.05)}


@dataclass(frozen=True)
class ExportRequest:
    """What to write.

    Args:
        formats: keys of ``FORMATS``, or 'pth' for the fused weights with their config.
        precisions: keys of ``DTYPES``. Each format is written in those that it supports.
        size: height and width of the images that artefacts take; None for any.
        channels: order of the channels of these images, 'RGB' or 'BGR'.
        logits: return logits, float32 (N, C, H, W), instead of class indices, uint8 (N, H, W).
    """
    formats: tuple[str, ...] = ('pth', )
    precisions: tuple[str, ...] = ('fp32', )
    size: tuple[int, int] | None = None
    channels: str = 'RGB'
    logits: bool = False


@dataclass
class Artefact:
    """A written file and how it was checked; milliseconds are the median for one image on all threads."""
    format: str
    precision: str
    size: tuple[int, int] | None
    output: str
    logit_difference: float
    changed: float
    milliseconds: float
    bytes: int
    sha256: str


def write_pt2(exporter: GraphExporter, output: str, precision: str, path: Path) -> None:
    """Write a file for ``torch.export.load``."""
    torch.export.save(exporter.program(output, DTYPES[precision]), path)


def write_onnx(exporter: GraphExporter, output: str, precision: str, path: Path) -> None:
    """Write ONNX, weights included."""
    exporter.onnx(output).save(path)


def write_openvino(exporter: GraphExporter, output: str, precision: str, path: Path) -> None:
    """Write OpenVINO's ``.xml`` and ``.bin``. It computes in bf16 by itself; then the weights are kept in 16 bits."""
    import openvino
    onnx_path = path.with_name(f'{path.name}.onnx')
    try:
        exporter.onnx(output).save(onnx_path)
        openvino.save_model(openvino.convert_model(onnx_path), path, compress_to_fp16=precision == 'bf16')
    finally:
        onnx_path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Format:
    """A file format: its suffix, the precisions that it supports, what writes it, and the packages for that."""
    suffix: str
    precisions: tuple[str, ...]
    write: Callable[[GraphExporter, str, str, Path], None] | None
    packages: tuple[str, ...] = ()


FORMATS = {
    'pth': Format('.pth', ('fp32', ), None),
    'onnx': Format('.onnx', ('fp32', ), write_onnx, ('onnx', 'onnxscript', 'onnxruntime')),
    'openvino': Format('.xml', ('fp32', 'bf16'), write_openvino, ('onnx', 'onnxscript', 'openvino')),
    'pt2': Format('.pt2', ('fp32', 'bf16'), write_pt2),
}


def check_request(request: ExportRequest) -> None:
    """Check that everything that is asked for can be written here.

    Raises:
        UserError: no format has a precision, or a format has none of the precisions.
        InstallationError: a package is missing.
    """
    for precision in request.precisions:
        if not any(precision in FORMATS[name].precisions for name in request.formats):
            able = [name for name, entry in FORMATS.items() if precision in entry.precisions]
            raise UserError(f'{" and ".join(request.formats)} cannot be written in {precision}; --formats {" or ".join(able)} '
                            'can')
    for name in request.formats:
        entry = FORMATS[name]
        if not set(entry.precisions) & set(request.precisions):
            raise UserError(f'{name} can be written in {" or ".join(entry.precisions)}, not in '
                            f'{" or ".join(request.precisions)}')
        if missing := [package for package in entry.packages if find_spec(package) is None]:
            raise InstallationError(f"--formats {name} needs {', '.join(missing)}; run: pip install 'repvgg_seg[export]'")


def export(trained: nn.Module, fused: nn.Module, config: Config, pictures: Sequence[np.ndarray], request: ExportRequest,
           folder: Path) -> tuple[dict[str, Artefact], dict]:
    """Write the artefacts of a segmentor and check each.

    Args:
        trained: the reference, in training form.
        fused: what is exported.
        config: of the trained model.
        pictures: for the check, uint8 BGR (H, W, 3).
        request: what to write.
        folder: where.

    Returns:
        The artefacts by their file names, and what their users must know of the model.

    Raises:
        UserError: the segmentor cannot be exported, the size is too small for the pyramid, or an artefact differs from the
            trained model.
    """
    check_exportable(fused, preprocessor_of(config))
    smallest = min_size(fused)
    if request.size and min(request.size) < smallest:
        raise UserError(f'--size {request.size[0]} {request.size[1]} is too small for the head\'s pyramid; expected at least '
                        f'{smallest} {smallest}')
    pictures = [crop_or_enlarge(picture, request.size or smallest_of(picture, smallest)) for picture in pictures]
    if request.size is None:
        check_dynamic(fused)
        # A second size, which divides by nothing.
        height, width = pictures[0].shape[:2]
        pictures.append(crop_or_enlarge(pictures[0], (max(smallest, 2 * height // 3) | 1, max(smallest, width // 2) | 1)))
    expected = [logits_of(trained, as_batch(trained, picture)) for picture in pictures]
    images = [picture if request.channels == 'BGR' else np.ascontiguousarray(picture[..., ::-1]) for picture in pictures]
    exporter = GraphExporter(fused, preprocessor_of(config), request.channels, images[0].shape[:2], request.size is None)
    artefacts = {}
    for format_name in request.formats:
        entry = FORMATS[format_name]
        for precision in (precision for precision in request.precisions if entry.write and precision in entry.precisions):
            path = folder / f'model.{precision}{entry.suffix}'
            artefacts[path.name] = write_checked(exporter, format_name, precision, path, expected, images, request)
    backbone, preprocessor = config.model.backbone, preprocessor_of(config)
    return artefacts, dict(
        channels=request.channels, min_size=smallest, mean=preprocessor.get('mean'), std=preprocessor.get('std'),
        backbone=backbone.type, arch=backbone.get('arch'), dilation=backbone.get('dilation'), align_corners=fused.align_corners)


def preprocessor_of(config: Config) -> dict:
    """Config of a segmentor's preprocessor; empty where it has none."""
    return config.model.get('data_preprocessor') or {}


def smallest_of(picture: np.ndarray, smallest: int) -> tuple[int, int]:
    """Height and width of a picture, but not less than a segmentor takes."""
    return max(picture.shape[0], smallest), max(picture.shape[1], smallest)


def crop_or_enlarge(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture (H, W, 3) at a size: cut out of it where it is large enough, else resized."""
    if picture.shape[0] < size[0] or picture.shape[1] < size[1]:
        picture = cv2.resize(picture, (max(size[1], picture.shape[1]), max(size[0], picture.shape[0])))
    return np.ascontiguousarray(picture[:size[0], :size[1]])


def write_checked(exporter: GraphExporter, format_name: str, precision: str, path: Path, expected: Sequence[Tensor],
                  images: Sequence[np.ndarray], request: ExportRequest) -> Artefact:
    """Write one artefact and compare its answers with the expected logits (1, C, H, W) of some images.

    Raises:
        UserError: they differ by more than ``ARTEFACT_LIMITS``.
    """
    # Logits tell more than classes, so they are looked at too where classes are written.
    write = FORMATS[format_name].write
    write(exporter, 'logits', precision, path)
    run = load_file(path, precision)
    difference, changed = compare((one, torch.from_numpy(run(image[None]))) for one, image in zip(expected, images))
    if not request.logits:
        write(exporter, 'labels', precision, path)
        run = load_file(path, precision)
        labels = [torch.from_numpy(run(image[None])).long() for image in images]
        changed = float(torch.cat([(one != each.argmax(1)).flatten() for one, each in zip(labels, expected)]).double().mean())
    limits = ARTEFACT_LIMITS[precision]
    if not (difference <= limits[0] and changed <= limits[1]):
        raise UserError(f'{path.name} differs from the trained model: logits by {difference:.1e} of the largest (limit '
                        f'{limits[0]:g}), {changed:.3%} of the pixels (limit {limits[1]:.1%}); nothing was written')
    milliseconds, = timing([lambda: run(images[0][None])])
    parts = [path, path.with_suffix('.bin')] if format_name == 'openvino' else [path]
    output = 'logits' if request.logits else 'labels'
    return Artefact(format_name, precision, request.size, output, difference, changed, milliseconds,
                    sum(part.stat().st_size for part in parts),
                    hashlib.sha256(b''.join(part.read_bytes() for part in parts)).hexdigest())
