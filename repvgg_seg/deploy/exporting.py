"""Export a fused model to the formats of other runtimes, and check each file against the trained model."""
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..core.errors import UserError
from ..models.repvgg import RepVGG
from ..runtime.backend import Run
from ..runtime.backends import parts_of
from ..runtime.predictor import Predictor, in_batches, sha256_of
from .abstention import Certificate, certify
from .artifacts import Artifact
from .comparison import as_batch, compare, logits_of
from .evaluation import Evaluation, Score
from .formats import FORMATS, PRECISIONS, Format
from .identities import split_identities
from .number_range import check_range
from .plan import DeployPlan
from .programs import Exporter, Program
from .quantization import Quantizer
from .sample_images import crop_or_enlarge
from .tasks import check_exportable
from .undilation import undilate_backbones

METRIC_LIMIT = 0.5  # Largest allowed drop of the metric from the trained model, in percentage points, if both were evaluated.


def export(plan: DeployPlan, trained: BaseModel, fused: BaseModel, folder: Path,
           evaluation: Evaluation | None = None) -> tuple[dict[str, Artifact], dict]:
    """Write the artifacts of a model, and check each one.

    Args:
        plan: deployment plan.
        trained: reference model in training form, on the CPU.
        fused: fused model to export, on the CPU.
        folder: output folder.
        evaluation: evaluation that is run on every artifact; None to skip it.

    Returns:
        The artifacts by file name, and the description of the model that ``deploy.json`` gives to their users.

    Raises:
        UserError: the model cannot be exported, the size is too small for it, or an artifact differs from the trained model by
            more than the limits.
    """
    request, task, normalization = plan.request, plan.task, plan.normalization
    check_exportable(task, fused)
    if others := [name for name in request.formats if plan.dtype not in FORMATS[name].dtypes]:
        raise UserError(f'{others[0]} takes pixels of 8 bits, the test pipeline reads {plan.dtype}; leave {others[0]} out')
    if request.size is None:
        task.check_any_size(fused, normalization.channels, plan.pictures)
    smallest = task.min_size(fused, normalization.channels, any_size=request.size is None)
    if request.size and min(request.size) < smallest:
        raise UserError(f'--size {request.size[0]} {request.size[1]} is too small for the head\'s pyramid; expected at least '
                        f'{smallest} {smallest}')
    pictures = [crop_or_enlarge(picture, enlarged_size(picture, smallest)) for picture in plan.pictures]
    calibration = [crop_or_enlarge(picture, enlarged_size(picture, smallest)) for picture in plan.calibration]
    if request.size is None:
        # Also check a second size, odd in both directions, which is not a multiple of the stride.
        height, width = pictures[0].shape[:2]
        pictures.append(crop_or_enlarge(pictures[0], (max(smallest, 2 * height // 3) | 1, max(smallest, width // 2) | 1)))
    info = dict(
        task=task.name, classes=list(plan.classes), palette=list(plan.palette), channels=plan.channels,
        in_channels=normalization.channels, dtype=plan.dtype, min_size=smallest, mean=normalization.mean, std=normalization.std,
        threshold=task.decision(fused).threshold, **plan.architecture, align_corners=getattr(fused, 'align_corners', None))
    checker = Checker(plan, trained, pictures, info, evaluation)
    size = pictures[0].shape[:2]
    undilated = {name: is_undilated(FORMATS[name], request.undilate, fused) for name in request.formats}
    exporters = {rewritten: Exporter(plan, undilate_backbones(fused) if rewritten else fused, size)
                 for rewritten in set(undilated.values())}
    if 'int8' in request.precisions:
        rewritten = undilate_backbones(fused) if request.undilate else fused
        split = Exporter(plan, split_identities(rewritten, required=False), size)
        quantizer = Quantizer(split, [plan.ordered(picture) for picture in calibration])
        info.update(calibration_images=len(calibration), layer_decibels=dict(quantizer.layers))
    artifacts = {}
    for format_name in request.formats:
        entry = FORMATS[format_name]
        if entry.export is None:
            continue
        for precision in (each for each in request.precisions if each in entry.precisions):
            path = folder / f'model.{precision}{entry.suffix}'
            if precision == 'int8':
                artifact = write_quantized(quantizer, checker, format_name, path)
            else:
                exporter = exporters[undilated[format_name]]
                if precision in entry.portable:
                    check_range(path.name, exporter.graph(), checker.images, PRECISIONS[precision].dtype)
                program = entry.export(exporter, precision, folder)
                artifact = checker.write(program, format_name, precision, path)
                checker.refuse_bad(path, artifact)
            artifacts[path.name] = replace(artifact, undilated=undilated[format_name])
    return artifacts, info


def is_undilated(entry: Format, requested: bool | None, fused: BaseModel) -> bool:
    """Whether to write a format without dilated convolutions. By default, only formats that benefit are rewritten, and only if
    the model has dilated convolutions."""
    if requested is not None:
        return requested
    return entry.undilate and type(fused.backbone) is RepVGG and any(
        isinstance(module, nn.Conv2d) and module.dilation != (1, 1) for module in fused.backbone.modules())


def write_quantized(quantizer: Quantizer, checker: 'Checker', format_name: str, path: Path) -> Artifact:
    """Write an int8 file, with as few layers in higher precision as the limits allow.

    The most sensitive layers are excluded first: 1, 2, 4, 8, and so on, until the file is within the limits.

    Raises:
        UserError: the file exceeds the limits even with half of the layers in higher precision.
    """
    quantize, excluded = FORMATS[format_name].quantize, 1
    if quantize is None:
        raise ValueError(f'{format_name} has no int8')
    while True:
        program = quantize(quantizer, excluded, path.parent)
        artifact = checker.write(program, format_name, 'int8', path)
        artifact.higher_precision = [quantizer.layers[index].name for index in quantizer.order[:excluded]]
        if not checker.excess(artifact):
            return artifact
        if 2 * excluded > len(quantizer.layers) / 2:
            checker.refuse_bad(path, artifact)
        excluded *= 2


class Checker:
    """Writes artifacts and compares them with the trained model.

    Args:
        plan, trained, evaluation: see :func:`export`.
        pictures: images for the comparison, BGR uint8 (H, W, C), not normalized.
        info: description of the model for a :class:`Predictor`.
    """

    def __init__(self, plan: DeployPlan, trained: BaseModel, pictures: Sequence[np.ndarray], info: dict,
                 evaluation: Evaluation | None) -> None:
        self.plan, self.info, self.evaluation = plan, info, evaluation
        self.decision = plan.task.decision(trained)
        self.expected = [logits_of(trained, as_batch(trained, plan.normalize(picture))) for picture in pictures]
        self.images = [plan.ordered(picture) for picture in pictures]

    def write(self, program: Program, format_name: str, precision: str, path: Path) -> Artifact:
        """Write a program, load it back, compare it with the trained model, and evaluate it.

        Comparing logits is a stricter check than comparing classes. If the file returns classes, the logits are therefore
        compared as well, using a temporary file of the same program.
        """
        request, entry = self.plan.request, FORMATS[format_name]
        with TemporaryDirectory(dir=path.parent) as temporary:
            logits_path = path if request.logits else Path(temporary, path.name)
            program.save(logits_path)
            run = logits_run = self.load(entry, logits_path, precision)
            logits = self.outputs(logits_run)
            difference, changed = compare(zip(self.expected, logits), self.decision.threshold)
        certificate = self.certify(logits_run, path.name)
        if certificate is not None:
            program.with_labels(self.decision._replace(confidences=certificate.thresholds)).save(path)
            changed = max(changed, self.disagreement(self.load(entry, path, precision), logits, certificate))
        elif not request.logits:
            program.with_labels(self.decision).save(path)
            run = self.load(entry, path, precision)
            changed = self.disagreement(run, self.expected)
        score = self.evaluate(run, path.name, run is logits_run)
        return Artifact(
            format_name, precision, request.size, 'logits' if request.logits else 'labels', difference, changed,
            undilated=False, higher_precision=[], bytes=sum(part.stat().st_size for part in parts_of(path)),
            sha256=sha256_of(path), abstention=certificate, batch=request.fixed_batch,
            opset=request.opset if path.suffix == '.onnx' else None, changed_on_test_set=score and score.changed,
            **{'miou': None, self.plan.task.metric.key: score and score.metric})

    def load(self, entry: Format, path: Path, precision: str) -> Run:
        """Load a file, to be run on any number of images."""
        return in_batches(entry.load(path, precision), self.plan.request.fixed_batch)

    def outputs(self, run: Run) -> list[Tensor]:
        """Run a file on the images of the comparison."""
        return [torch.from_numpy(run(image[None])) for image in self.images]

    def disagreement(self, run: Run, logits: Sequence[Tensor], certificate: Certificate | None = None) -> float:
        """Compute the share of pixels (for a classifier, of images) whose class is not the one that follows from logits."""
        decision = self.decision._replace(confidences=certificate.thresholds if certificate else None)
        pairs = [(found, decision.labels_of(each)) for found, each in zip(self.outputs(run), logits)]
        return float(torch.cat([(found != expected).flatten() for found, expected in pairs]).double().mean())

    def certify(self, run: Run, name: str) -> Certificate | None:
        """Choose the thresholds of an artifact by its own logits on the test set; None if every pixel is to be answered.

        Raises:
            UserError: there are no such thresholds.
        """
        request = self.plan.request
        if request.abstain is None or self.evaluation is None:
            return None
        predictor = Predictor(run, self.info, dict(size=request.size, output='logits'))
        return certify([counts for _, counts in self.evaluation.counts(predictor, name)], request.abstain, request.confidence)

    def evaluate(self, run: Run, name: str, gives_logits: bool) -> Score | None:
        """Evaluate an artifact with a class for every pixel; None without an evaluation."""
        if self.evaluation is None:
            return None

        def labels_of_logits(images: np.ndarray) -> np.ndarray:
            return self.decision.labels_of(torch.from_numpy(run(images))).numpy()

        artifact = dict(size=self.plan.request.size, output='labels')
        predictor = Predictor(labels_of_logits if gives_logits else run, self.info, artifact)
        return self.evaluation.of_predictor(predictor, name)

    def excess(self, artifact: Artifact) -> str:
        """Describe every limit that an artifact exceeds; empty if it exceeds none."""
        precision, unit, metric = PRECISIONS[artifact.precision], self.plan.task.unit, self.plan.task.metric
        found = []
        if not artifact.logit_difference <= precision.logit_limit:
            found.append(f'logits by {artifact.logit_difference:.1e} of the largest (limit {precision.logit_limit:g})')
        changed = max(artifact.changed, artifact.changed_on_test_set or 0)
        if not changed <= precision.changed_limit:
            found.append(f'{changed:.3%} of the {unit} (limit {precision.changed_limit:.1%})')
        value = getattr(artifact, metric.key)
        if self.evaluation is not None and not self.evaluation.reference - value <= METRIC_LIMIT:
            found.append(f'{metric.title} {self.evaluation.reference:.2f} to {value:.2f} (limit {METRIC_LIMIT} less)')
        return ', '.join(found)

    def refuse_bad(self, path: Path, artifact: Artifact) -> None:
        """Raise UserError if an artifact exceeds a limit."""
        if excess := self.excess(artifact):
            names = artifact.higher_precision
            layers = f', with {len(names)} layers in higher precision' if names else ''
            raise UserError(f'{path.name} differs from the trained model{layers}: {excess}; nothing was written')


def enlarged_size(picture: np.ndarray, smallest: int) -> tuple[int, int]:
    """Height and width of a picture, each enlarged to at least the smallest size that the model takes."""
    return max(picture.shape[0], smallest), max(picture.shape[1], smallest)
