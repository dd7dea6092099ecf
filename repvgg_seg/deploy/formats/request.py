"""What to write, and whether that is possible on this machine."""
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from ...core.errors import InstallationError, UserError
from ...core.tasks import MODEL_KINDS, SEGMENTATION
from ...engine.hardware import cpu_has_bfloat16
from ...engine.trained_model import FUSED_WEIGHTS
from ...runtime.predictor import pair
from ..graph import OPSET
from ..onnx_opset import OPSETS
from .format import PRECISIONS
from .table import FORMATS

CANNOT_EXPORT = (2, 6)  # This and older PyTorch versions cannot export; versions between it and 2.14 are untested.


@dataclass(frozen=True)
class ExportRequest:
    """Files to write, and checks to run on them.

    Args:
        formats: keys of ``FORMATS``; those in ``FUSED_WEIGHTS`` write the fused weights with their config.
        precisions: keys of ``PRECISIONS``. Each format is written in the precisions that it supports.
        size: height and width in pixels of the images that artifacts take; None for any size.
        batch: number of images that artifacts of a fixed size take at once; None for any number. Artifacts for any size take
            any number.
        opset: opset of ONNX files, one of ``OPSETS``.
        channels: channel order of these images, 'RGB' or 'BGR'.
        logits: whether artifacts return logits in float32, (N, C, H, W) from a segmentor and (N, C) from a classifier, instead
            of class indices.
        undilate: whether RepVGG is written without dilated convolutions, see :func:`repvgg_seg.deploy.undilate`; None does so
            for the formats that benefit from it.
        images: image, folder, or glob pattern for the comparison; by default images of the test set, or a random image if there
            is no test set.
        calibration: image, folder, or glob pattern for int8 calibration; by default images of the training set.
        evaluate: whether to evaluate all models on the test set, and to reject any whose metric drops by more than
            ``METRIC_LIMIT``. For int8, this is done whenever labels are available and the size is that of the test.
        abstain: largest share of wrong pixels among those that a segmentor answers, see :mod:`repvgg_seg.deploy.abstention`;
            the others get the value 255. None to answer every pixel. Includes ``evaluate``.
        confidence: probability with which that share is not exceeded.
        onnxruntime_web: folder of npm's package onnxruntime-web, for the format web; None to download it with npm.

    Raises:
        UserError: ``size`` is neither a pair of integers nor None, or ``batch`` neither a positive integer nor None.
    """
    formats: tuple[str, ...] = ('pth', )
    precisions: tuple[str, ...] = ('fp32', )
    size: tuple[int, int] | None = None
    batch: int | None = 1
    opset: int = OPSET
    channels: str = 'RGB'
    logits: bool = False
    undilate: bool | None = None
    images: str | None = None
    calibration: str | None = None
    evaluate: bool = False
    abstain: float | None = None
    confidence: float = 0.9
    onnxruntime_web: str | None = None

    @property
    def exports(self) -> bool:
        """Whether the request includes formats other than the fused weights."""
        return not set(self.formats) <= set(FUSED_WEIGHTS)

    @property
    def fixed_batch(self) -> int | None:
        """Number of images that artifacts take at once; None for any number."""
        return self.batch if self.size else None

    def __post_init__(self) -> None:
        if self.batch is not None and (not isinstance(self.batch, int) or self.batch < 1):
            raise UserError(f'batch must be 1 or more, or None for any number of images, got {self.batch!r}')
        if self.size is not None:
            object.__setattr__(self, 'size', pair(self.size, 'size must be height and width, or None'))


def check_request(request: ExportRequest, task: str = SEGMENTATION) -> None:
    """Check that a request can be fulfilled on this machine.

    Args:
        request: files to write and checks to run.
        task: task of the model, see :func:`repvgg_seg.core.tasks.task_of`.

    Raises:
        UserError: a format, precision, or channel order does not exist; no requested format supports a requested precision or
            can be written without dilation; a format supports none of the precisions, needs a size, takes single images only,
            or does not support this kind of model; a batch size is given without a size, calibration images without int8,
            onnxruntime-web without web, or an opset without ONNX files; the opset is not one of ``OPSETS``; the CPU cannot
            compute in a precision, so the file could not be checked; or this version of PyTorch cannot export.
        InstallationError: a required package is not installed.
    """
    for name, given, known in (('formats', request.formats, FORMATS), ('precisions', request.precisions, PRECISIONS),
                               ('channels', [request.channels], ('RGB', 'BGR'))):
        if isinstance(given, str) or not given or not set(given) <= set(known):
            raise UserError(f'{name} must be among {", ".join(known)}, got {given!r}')
    if others := [name for name in request.formats if task not in FORMATS[name].tasks]:
        able = [name for name, entry in FORMATS.items() if task in entry.tasks]
        raise UserError(f'{others[0]} cannot be written of a {MODEL_KINDS[task]}; --formats {" or ".join(able)} can')
    if request.calibration and 'int8' not in request.precisions:
        raise UserError('--calibration is for int8 only; add --precision int8, or leave it out')
    if request.onnxruntime_web and 'web' not in request.formats:
        raise UserError('--onnxruntime-web is for --formats web; leave it out')
    if request.undilate and not request.exports:
        raise UserError('fused weights are written as they were trained, with dilation; --undilate on needs --formats '
                        'besides pth and safetensors')
    if not request.exports and (request.logits or request.channels != 'RGB'):
        raise UserError('fused weights are used by MMSegmentation, which gives logits and reads images as it is configured; '
                        '--logits and --channels need --formats besides pth and safetensors')
    if request.abstain is not None:
        check_abstention(request, task)
    if request.batch != 1 and request.size is None:
        raise UserError('--batch is for files of a fixed size, and files for any size take any number of images; give --size H '
                        'W, or leave --batch out')
    if request.opset != OPSET:
        if request.opset not in OPSETS:
            raise UserError(f'--opset must be from {OPSETS[0]} to {OPSETS[-1]}, got {request.opset}')
        if not any(FORMATS[name].suffix.endswith('.onnx') for name in request.formats):
            able = [name for name, entry in FORMATS.items() if entry.suffix.endswith('.onnx')]
            raise UserError(f'--opset is for --formats {" or ".join(able)}; add one of them, or leave it out')
    for precision in request.precisions:
        if not any(precision in FORMATS[name].precisions for name in request.formats):
            able = [name for name, entry in FORMATS.items() if precision in entry.precisions]
            raise UserError(f'{" and ".join(request.formats)} cannot be written in {precision}; --formats {" or ".join(able)} '
                            'can')
        unchecked = [name for name in request.formats
                     if precision in FORMATS[name].precisions and precision not in FORMATS[name].portable]
        if unchecked and precision not in (native := native_precisions()):
            raise UserError(f'this CPU cannot compute in {precision}, so the file could not be checked here; use --precision '
                            f'{" or ".join(native)}, or export on a CPU that can')
    if request.exports and tuple(map(int, torch.__version__.split('.')[:2])) <= CANNOT_EXPORT:
        raise UserError(f'torch {torch.__version__} cannot export these models; use 2.14 or newer, with which that is tested, '
                        'or leave --formats out')
    for name in request.formats:
        entry = FORMATS[name]
        if not set(entry.precisions) & set(request.precisions):
            raise UserError(f'{name} can be written in {" or ".join(entry.precisions)}, not in '
                            f'{" or ".join(request.precisions)}')
        if request.size is None and not entry.any_size:
            raise UserError(f'{name} takes images of one size; give --size H W')
        if request.batch != 1 and not entry.batches:
            raise UserError(f'{name} takes one image at a time; leave --batch out')
        packages = entry.packages + (entry.quantize_packages if 'int8' in request.precisions else ())
        if missing := [package for package in packages if find_spec(package) is None]:
            raise InstallationError(f"{name} needs {', '.join(missing)}; run: pip install 'repvgg_seg[{entry.extra}]'")


def check_abstention(request: ExportRequest, task: str) -> None:
    """Check that exported files can say "unknown", as a request wants.

    Raises:
        UserError: the risk or the confidence is not between 0 and 1, or nothing that is written can contain the thresholds.
    """
    for name, value in (('abstain', request.abstain), ('confidence', request.confidence)):
        if value is None or not 0 < value < 1:
            raise UserError(f'--{name} must be between 0 and 1, got {value}')
    if task != SEGMENTATION:
        raise UserError(f'--abstain is for segmentors, the config is for a {MODEL_KINDS[task]}; leave it out')
    if request.logits:
        raise UserError('--abstain decides which pixels get a class, but --logits returns scores instead of classes; leave one '
                        'of them out')
    unable = [name for name in request.formats if not FORMATS[name].abstains]
    if unable:
        able = [name for name, entry in FORMATS.items() if entry.abstains]
        raise UserError(f'{unable[0]} cannot contain the thresholds of --abstain; --formats {" or ".join(able)} can')


def native_precisions() -> list[str]:
    """Keys of ``PRECISIONS`` that this CPU computes in natively, without substituting another precision."""
    if not torch.backends.mkldnn.is_available():  # Without it, support for the other precisions cannot be queried.
        return ['fp32', 'int8']
    lacking = {'bf16': not cpu_has_bfloat16(),
               'fp16': not torch.ops.mkldnn._is_mkldnn_fp16_supported()}
    return [name for name in PRECISIONS if not lacking.get(name)]
