"""Fuse a trained model, export it, check that the results agree with the trained model, and only then write the folder."""
import io
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import mmengine.device
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor, nn

from .. import __version__
from ..core.command_names import command
from ..core.destinations import check_replaced
from ..core.errors import UserError, some
from ..core.reading import METADATA, local_file
from ..core.replacing import replacement
from ..core.tasks import SEGMENTATION, task_of
from ..engine.classes import check_same_classes, trained_classes
from ..engine.trained_model import FUSED_CONFIG, FUSED_WEIGHTS, build_trained, checkpoint_in
from ..runtime.backends import companions_of
from ..runtime.predictor import sha256_of
from ..runtime.report import REPORT
from .artifacts import Artifact
from .comparison import as_batch, compare, full_float32, logits_of, timing
from .evaluation import evaluation_for
from .exporting import export
from .formats import FORMATS, PRECISIONS, ExportRequest, check_request
from .fusing import fuse_for_inference, fused_model_config
from .plan import DeployPlan, inputs_of
from .sealing import seal
from .tasks import TASKS

# The largest logit difference, relative to the largest logit, and the largest share of pixels (or images) that change class.
FUSING_LIMITS = (1e-4, 1e-3)
# Names of the files that the tool writes into a folder.
WRITTEN = {REPORT, FUSED_CONFIG, *FUSED_WEIGHTS.values(), *(
    part.name for entry in FORMATS.values() if entry.export for precision in PRECISIONS
    for part in companions_of(Path(f'model.{precision}{entry.suffix}'))), *(
    name for entry in FORMATS.values() for name in entry.names_beside)}


@dataclass
class DeployReport:
    """Model statistics before and after deployment: numbers of parameters, sizes in bytes, and milliseconds per image."""
    unit: str  # What the model classifies: pixels or images.
    images: int
    real_images: bool
    logit_difference: float
    changed: float
    evaluated_images: int
    miou_before: float | None  # In percent; None if the model was not evaluated.
    miou_after: float | None
    parameters_before: int
    parameters_after: int
    bytes_before: int
    bytes_after: int | None  # None if the fused weights are not written to a separate file.
    milliseconds_before: float
    milliseconds_after: float
    speedup: tuple[float, ...]  # Three quartiles of the ratio of the two times, which were measured alternately.
    in_channels: int
    input_size: tuple[int, ...]  # Height and width in pixels.
    device: str
    artefacts: dict[str, Artifact]
    steps_left_out: list[str]  # Steps of the test pipeline that exported files do not include.
    task: str = SEGMENTATION
    accuracy_before: float | None = None  # Top-1 accuracy of a classifier in percent; None if the model was not evaluated.
    accuracy_after: float | None = None

    def lines(self) -> list[str]:
        """Format the report as lines for the terminal."""
        kind, metric = 'real' if self.real_images else 'random', TASKS[self.task].metric
        before, after = getattr(self, f'{metric.key}_before'), getattr(self, f'{metric.key}_after')
        height, width = self.input_size
        lines = [
            f'agreement on {self.images} {kind} image(s): logits differ by {self.logit_difference:.1e} of the largest, '
            f'{self.changed:.4%} of the {self.unit} change class',
            *([f'{metric.title:<12}{before:>14.2f} -> {after:>14.2f}   ({self.evaluated_images} images)']
              if before is not None else []),
            f'parameters  {self.parameters_before:>14,} -> {self.parameters_after:>14,}']
        if self.bytes_after:
            lines.append(f'file (MB)   {self.bytes_before / 1e6:>14.1f} -> {self.bytes_after / 1e6:>14.1f}')
        lines.append(
            f'time (ms)   {self.milliseconds_before:>14.1f} -> {self.milliseconds_after:>14.1f}   '
            f'({self.speedup[1]:.2f}x faster, {self.speedup[0]:.2f}x to {self.speedup[2]:.2f}x in half of the turns; '
            f'1x{self.in_channels}x{height}x{width}, fp32, {self.device})')
        for name, artifact in self.artefacts.items():
            line = (f'{name:<18} logits differ by {artifact.logit_difference:.1e}, {artifact.changed:.4%} of the {self.unit} '
                    f'change class; {artifact.bytes / 1e6:.1f} MB')
            if (value := getattr(artifact, metric.key)) is not None:
                line += f'; {metric.title} {value:.2f}'
            if artifact.changed_on_test_set is not None:
                line += f', {artifact.changed_on_test_set:.4%} of the {self.unit} of the test set changed'
            if artifact.abstention is not None:
                line += f'; {artifact.abstention.line()}'
            if artifact.higher_precision:
                line += f'; in higher precision: {", ".join(artifact.higher_precision)}'
            lines.append(line)
        if self.steps_left_out:
            lines.append(f'not in the exported files: {", ".join(self.steps_left_out)} of the test pipeline; give them images '
                         'after that')
        if self.artefacts and self.task == SEGMENTATION:
            lines.append(f'how fast the exported files are: {command("benchmark")} artefacts')
        return lines


def deploy(config: Config, checkpoint: str, out: Path, request: ExportRequest | None = None) -> DeployReport:
    """Fuse a trained segmentor or classifier and write it to a folder of artifacts with a report.

    The backbone and the head are fused, and the auxiliary head is dropped. Nothing is written unless every artifact agrees with
    the trained model. An existing deployment folder is replaced in a single step at the end.

    Args:
        config: full config of the trained model.
        checkpoint: training checkpoint of the model, or a work dir, from which the best checkpoint is taken.
        out: output folder; it may contain an earlier deployment, which is replaced.
        request: files to write and checks to run; by default only the fused weights and their config are written.

    Returns:
        The report, which is also saved in the folder.

    Raises:
        UserError: the checkpoint does not match the config, the fused model or an artifact disagrees with the trained model,
            ``out`` contains other files or an input of the deployment, or the request cannot be fulfilled.
    """
    request = request or ExportRequest()
    check_request(request, task_of(config.model))
    if Path(checkpoint).is_dir():
        checkpoint = str(checkpoint_in(Path(checkpoint)) or checkpoint)
    out = out.resolve()  # If out is a symbolic link, the link stays and its target is replaced.
    check_replaced(out, inputs_of(config, checkpoint, request))
    check_replaceable(out)
    if Path(checkpoint).is_dir():
        raise UserError(f'{checkpoint} is a folder; expected the training checkpoint, a .pth file, or the work dir of a '
                        'training')
    weights = local_file(checkpoint)
    trained, meta = build_trained(config, str(weights))
    plan = DeployPlan.of(config, request)
    check_same_classes(f'checkpoint {checkpoint}', trained_classes(meta), 'the test set of the config', plan.classes)
    plan = replace(plan, classes=plan.task.classes(plan.classes, meta, trained))
    if request.abstain is not None and plan.task.decision(trained).threshold is not None:
        raise UserError('--abstain needs the probabilities of all classes, but the head has out_channels=1; train it with '
                        'out_channels=2, or leave --abstain out')
    beside: dict[str, bytes] = {}
    for name in request.formats:
        if (files_beside := FORMATS[name].beside) is not None:
            beside.update(files_beside(plan))
    device = mmengine.device.get_device()
    fused = fuse_for_inference(trained.to(device))
    batches = [as_batch(trained, plan.normalize(picture)) for picture in plan.pictures]
    difference, changed = compare_fused(plan, trained, fused, batches)
    evaluation = evaluation_for(config, plan)
    with full_float32():  # As the report says.
        metrics = evaluation.before_and_after(trained, fused) if evaluation else (None, None)
        before, after = timing([partial(logits_of, model, batches[0]) for model in (trained, fused)])
    ratios = statistics.quantiles([first / second for first, second in zip(before, after)], n=4)
    report = DeployReport(
        unit=plan.task.unit, images=len(plan.pictures), real_images=plan.real_images, logit_difference=difference,
        changed=changed, evaluated_images=evaluation.images if evaluation else 0, miou_before=None, miou_after=None,
        parameters_before=count(trained), parameters_after=count(fused), bytes_before=os.path.getsize(weights),
        bytes_after=None, milliseconds_before=statistics.median(before), milliseconds_after=statistics.median(after),
        speedup=tuple(ratios), in_channels=batches[0].shape[1], input_size=tuple(batches[0].shape[2:]),
        device=torch.cuda.get_device_name() if device == 'cuda' else f'{device}, {torch.get_num_threads()} threads',
        artefacts={}, steps_left_out=plan.steps_left_out, task=plan.task.name)
    for when, value in zip(('before', 'after'), metrics):
        setattr(report, f'{plan.task.metric.key}_{when}', value)
    info: dict = dict(repvgg_seg_version=__version__, torch_version=str(torch.__version__), source=Path(checkpoint).name,
                      source_sha256=sha256_of(weights))

    with replacement(out) as temporary:
        if formats := [name for name in FUSED_WEIGHTS if name in request.formats]:
            dataset_meta = plan.metainfo or meta.get('dataset_meta', {})
            about = dict(info, fused=True, dataset_meta=dataset_meta)
            written = write_fused(temporary, fused, fused_model_config(config), about, formats)
            report.bytes_after = os.path.getsize(written[0])
            info['files'] = {path.name: sha256_of(path) for path in (temporary / FUSED_CONFIG, *written)}
        info.update(plan.metainfo)
        if request.exports:
            report.artefacts, description = export(plan, trained.cpu(), fused.cpu(), temporary, evaluation)
            info.update(description)
            record = {**info, **asdict(report)}
            report.artefacts = {name: seal(temporary / name, artifact, record) for name, artifact in report.artefacts.items()}
        for name, content in beside.items():
            (temporary / name).write_bytes(content)
        (temporary / REPORT).write_text(json.dumps({**info, **asdict(report)}, indent=2))
    return report


def compare_fused(plan: DeployPlan, trained: BaseModel, fused: BaseModel, batches: Sequence[Tensor]) -> tuple[float, float]:
    """Compare the fused model with the trained model.

    Args:
        plan: deployment plan.
        trained, fused: the two models.
        batches: normalized images, each of shape (1, C, H, W).

    Returns:
        The logit difference and the share of changed classes, see :func:`repvgg_seg.deploy.comparison.compare`.

    Raises:
        UserError: the models differ by more than ``FUSING_LIMITS``.
    """
    with full_float32():
        difference, changed = compare(((logits_of(trained, batch), logits_of(fused, batch)) for batch in batches),
                                      plan.task.decision(trained).threshold)
    if not (difference <= FUSING_LIMITS[0] and changed <= FUSING_LIMITS[1]):
        raise UserError(f'the fused model differs from the trained one: logits by {difference:.1e} of the largest '
                        f'(limit {FUSING_LIMITS[0]:.0e}), {changed:.3%} of the {plan.task.unit} '
                        f'(limit {FUSING_LIMITS[1]:.1%}); nothing was written')
    return difference, changed


def write_fused(folder: Path, fused: BaseModel, config: Config, meta: dict, formats: Sequence[str]) -> list[Path]:
    """Write the weights and the config of a fused model, and check that reading them back gives the same model.

    Args:
        folder: folder for the files.
        fused: fused model.
        config: config of the fused model.
        meta: what is known about the model.
        formats: keys of ``FUSED_WEIGHTS``.

    Returns:
        Paths of the weights, by format.

    Raises:
        UserError: the weights differ after reading them back.
    """
    config.dump(folder / FUSED_CONFIG)
    state = {key: value.cpu() for key, value in fused.state_dict().items()}
    paths = [folder / FUSED_WEIGHTS[name] for name in formats]
    for path in paths:
        path.write_bytes((as_safetensors if path.suffix == '.safetensors' else as_pickle)(state, meta))
        reloaded = build_trained(config, str(path))[0].state_dict()
        if list(reloaded) != list(state) or not all(torch.equal(value, reloaded[key]) for key, value in state.items()):
            raise UserError('the written model differs from the fused one when it is read back; nothing was written')
    return paths


def as_pickle(state: Mapping[str, Tensor], meta: dict) -> memoryview:
    """Content of a checkpoint in PyTorch's format; torch.save() to a file does not report a full disk."""
    buffer = io.BytesIO()
    torch.save(dict(meta=meta, state_dict=state), buffer)
    return buffer.getbuffer()


def as_safetensors(state: Mapping[str, Tensor], meta: dict) -> bytes:
    """Content of a safetensors file; of the metainfo of the dataset, only the classes and their colors are kept."""
    from safetensors.torch import save
    dataset = {key: meta['dataset_meta'][key] for key in ('classes', 'palette') if key in meta['dataset_meta']}
    metadata = {METADATA: json.dumps({**meta, 'dataset_meta': dataset})}
    return save({name: value.contiguous() for name, value in state.items()}, metadata)


def check_replaceable(out: Path) -> None:
    """Check that a folder can be created, or that it holds an earlier deployment and can be replaced.

    Raises:
        UserError: ``out`` is a file or a mount point, contains files that this tool did not write, or is not writable.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f'{out} is a file; expected a folder to write')
    if out.is_mount():
        raise UserError(f'{out} is a mount point, which cannot be replaced at once; choose a folder in it')
    if out.exists() and not (out / REPORT).is_file() and any(out.iterdir()):
        raise UserError(f'folder {out} is not empty and was not written by this tool; choose another one')
    if foreign := sorted(path.name for path in (out.iterdir() if out.exists() else ()) if path.name not in WRITTEN):
        raise UserError(f'folder {out}, which would be replaced, holds {some(foreign)}, which this tool did not write; move '
                        'that away, or choose another folder')
    for folder in (out.parent, *([out] if out.exists() else [])):
        if not os.access(folder, os.W_OK):
            raise UserError(f'folder {folder} cannot be written; choose another one')


def count(model: nn.Module) -> int:
    """Count the parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters())
