"""Writing a fused segmentor in the formats that other programs run, each file checked against the trained model."""
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from ..config_types import type_name
from ..engine.dataset_configs import dataset_metainfo
from ..errors import UserError
from ..models.repvgg import RepVGG
from .agreement import as_batch, classes_of, compare, logits_of, threshold_of
from .artefacts import FORMATS, PRECISIONS, Artefact, ExportRequest, Format
from .evaluation import Evaluation
from .graph import GraphExporter, check_dynamic, check_exportable, min_size
from .normalization import normalization_of, normalizer
from .quantization import Quantizer, split_identities
from .runtime import Predictor, Run, load_file, sha256_of
from .sample_images import crop_or_enlarge
from .undilation import undilate

MIOU_LIMIT = 0.5  # Largest loss against the trained model, in per cent, where both were evaluated.

Write = Callable[[str, Path], None]  # Writes logits or labels to a file.


def export(trained: nn.Module, fused: nn.Module, config: Config, pictures: Sequence[np.ndarray], request: ExportRequest,
           folder: Path, calibration: Sequence[np.ndarray] = (), evaluation: Evaluation | None = None,
           miou: float | None = None) -> tuple[dict[str, Artefact], dict]:
    """Write the artefacts of a segmentor and check each.

    Args:
        trained: the reference, in training form.
        fused: what is exported.
        config: of the trained model.
        pictures: for the check, uint8 BGR (H, W, C), not normalized, of the size that is asked for.
        request: what to write.
        folder: where.
        calibration: images for int8, like ``pictures``.
        evaluation: evaluates every artefact.
        miou: of the trained model.

    Returns:
        The artefacts by their file names, and what their users must know of the model.

    Raises:
        UserError: the segmentor cannot be exported, the size is too small for the pyramid, or an artefact differs from the
            trained model by more than the limits.
    """
    check_exportable(fused, config.model.get('data_preprocessor') or {})
    normalization = normalization_of(config)
    channels = request.channels if normalization.channels == 3 else None
    if channels is None and request.channels != 'RGB':
        raise UserError(f'--channels is for images of 3 channels, this segmentor takes {normalization.channels}; leave it out')
    smallest = min_size(fused, normalization.channels)
    if request.size and min(request.size) < smallest:
        raise UserError(f'--size {request.size[0]} {request.size[1]} is too small for the head\'s pyramid; expected at least '
                        f'{smallest} {smallest}')
    pictures, calibration = ([crop_or_enlarge(picture, smallest_of(picture, smallest)) for picture in group]
                             for group in (pictures, calibration))
    if request.size is None:
        check_dynamic(fused, normalization.channels)
        # A second size, which divides by nothing.
        height, width = pictures[0].shape[:2]
        pictures.append(crop_or_enlarge(pictures[0], (max(smallest, 2 * height // 3) | 1, max(smallest, width // 2) | 1)))
    backbone = config.model.backbone
    info = dict(
        channels=channels, in_channels=normalization.channels, min_size=smallest, mean=normalization.mean,
        std=normalization.std, threshold=threshold_of(fused), backbone=type_name(backbone), arch=backbone.get('arch'),
        dilation=backbone.get('dilation'), align_corners=fused.align_corners)
    checker = Checker(trained, pictures, normalizer(config), request, {**dataset_metainfo(config), **info}, evaluation, miou)
    size = pictures[0].shape[:2]
    exporter_of = partial(GraphExporter, normalization=normalization, channels=request.channels, size=size,
                          dynamic=request.size is None)
    undilated = {name: is_undilated(FORMATS[name], request, fused) for name in request.formats}
    exporters = {rewritten: exporter_of(undilate(fused) if rewritten else fused) for rewritten in set(undilated.values())}
    if 'int8' in request.precisions:
        split = exporter_of(split_identities(undilate(fused) if request.undilate else fused))
        quantizer = Quantizer(split, [in_order(picture, request.channels) for picture in calibration])
        info.update(calibration_images=len(calibration), layer_decibels=dict(quantizer.layers))
    artefacts = {}
    for format_name in request.formats:
        entry = FORMATS[format_name]
        for precision in (precision for precision in request.precisions if entry.write and precision in entry.precisions):
            path = folder / f'model.{precision}{entry.suffix}'
            if precision == 'int8':
                artefacts[path.name] = write_quantized(quantizer, checker, format_name, path)
            else:
                write = partial(entry.write, exporters[undilated[format_name]], precision=precision)
                artefacts[path.name] = checker.measure(write, format_name, precision, path)
                checker.refuse_bad(path, artefacts[path.name])
            artefacts[path.name].undilated = undilated[format_name]
    return artefacts, info


def is_undilated(entry: Format, request: ExportRequest, fused: nn.Module) -> bool:
    """Whether a format is written without dilated convolutions; without being asked only where there are some."""
    if request.undilate is not None:
        return bool(request.undilate)
    return entry.undilate and type(fused.backbone) is RepVGG and any(
        isinstance(module, nn.Conv2d) and module.dilation != (1, 1) for module in fused.backbone.modules())


def write_quantized(quantizer: Quantizer, checker: 'Checker', format_name: str, path: Path) -> Artefact:
    """Write in int8, with as few layers in higher precision as the limits allow: 1, 2, 4, 8 ... of those that lose most.

    Raises:
        UserError: the limits are exceeded with half of the layers in higher precision.
    """
    kept = 1
    while True:
        write = partial(quantizer.write, FORMATS[format_name].quantize, kept=kept)
        artefact = checker.measure(write, format_name, 'int8', path)
        artefact.higher_precision = [quantizer.layers[index].name for index in quantizer.order[:kept]]
        if not checker.excess(artefact):
            return artefact
        if 2 * kept > len(quantizer.layers) / 2:
            checker.refuse_bad(path, artefact)
        kept *= 2


class Checker:
    """Compares artefacts with the trained model.

    Args:
        trained, pictures, request, evaluation, miou: see :func:`export`.
        normalize: what the test pipeline does to pictures before the trained model gets them.
        info: what a :class:`Predictor` needs to know.
    """

    def __init__(self, trained: nn.Module, pictures: Sequence[np.ndarray], normalize: Callable[[np.ndarray], np.ndarray],
                 request: ExportRequest, info: dict, evaluation: Evaluation | None, miou: float | None) -> None:
        self.request, self.info, self.evaluation, self.miou = request, info, evaluation, miou
        self.expected = [logits_of(trained, as_batch(trained, normalize(picture))) for picture in pictures]
        self.threshold = threshold_of(trained)
        self.images = [in_order(picture, request.channels) for picture in pictures]

    def measure(self, write: Write, format_name: str, precision: str, path: Path) -> Artefact:
        """Write an artefact, load it again, and compare and evaluate it."""
        # Logits tell more than classes, so they are looked at too where classes are written.
        write('logits', path=path)
        run = load_file(path, precision)
        logits = [torch.from_numpy(run(image[None])) for image in self.images]
        difference, changed = compare(zip(self.expected, logits), self.threshold)
        if not self.request.logits:
            write('labels', path=path)
            run = load_file(path, precision)
            labels = [torch.from_numpy(run(image[None])).long() for image in self.images]
            classes = [classes_of(each, self.threshold) for each in self.expected]
            changed = float(torch.cat([(one != each).flatten() for one, each in zip(labels, classes)]).double().mean())
        parts = [path, *(weights for weights in [path.with_suffix('.bin')] if weights.is_file())]
        return Artefact(
            format_name, precision, self.request.size, 'logits' if self.request.logits else 'labels', difference, changed,
            self.evaluate(run, path.name), False, [], sum(part.stat().st_size for part in parts),
            sha256_of(path))

    def evaluate(self, run: Run, name: str) -> float | None:
        """mIoU of an artefact in per cent; None without an evaluation."""
        if self.evaluation is None:
            return None
        labels = (lambda images: classes_of(torch.from_numpy(run(images)), self.threshold).numpy().astype(np.uint8)
                  ) if self.request.logits else run
        predictor = Predictor(labels, self.info, dict(size=self.request.size, output='labels'))
        return self.evaluation.of_predictor(predictor, name)

    def excess(self, artefact: Artefact) -> str:
        """By what an artefact exceeds which limit; empty where it does not."""
        precision = PRECISIONS[artefact.precision]
        found = []
        if not artefact.logit_difference <= precision.logit_limit:
            found.append(f'logits by {artefact.logit_difference:.1e} of the largest (limit {precision.logit_limit:g})')
        if not artefact.changed <= precision.changed_limit:
            found.append(f'{artefact.changed:.3%} of the pixels (limit {precision.changed_limit:.1%})')
        if artefact.miou is not None and not self.miou - artefact.miou <= MIOU_LIMIT:
            found.append(f'mIoU {self.miou:.2f} to {artefact.miou:.2f} (limit {MIOU_LIMIT} less)')
        return ', '.join(found)

    def refuse_bad(self, path: Path, artefact: Artefact) -> None:
        """Raise UserError where an artefact exceeds a limit."""
        if excess := self.excess(artefact):
            kept = artefact.higher_precision
            layers = f', with {len(kept)} layers in higher precision' if kept else ''
            raise UserError(f'{path.name} differs from the trained model{layers}: {excess}; nothing was written')


def in_order(picture: np.ndarray, channels: str) -> np.ndarray:
    """A BGR picture with its channels in the order 'RGB' or 'BGR'; one of other than three channels as it is."""
    return picture if channels == 'BGR' or picture.shape[2] != 3 else np.ascontiguousarray(picture[..., ::-1])


def smallest_of(picture: np.ndarray, smallest: int) -> tuple[int, int]:
    """Height and width of a picture, but not less than a segmentor takes."""
    return max(picture.shape[0], smallest), max(picture.shape[1], smallest)
