"""Fuse a trained model, export it, prove that it gives the same answer, and only then write it as a folder."""
import io
import json
import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import mmengine.device
import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from .. import __version__
from ..configs import files_of_config
from ..destinations import check_replaced
from ..engine.building import FUSED_CONFIG, FUSED_WEIGHTS, build_trained
from ..engine.classes import check_same_classes, trained_classes
from ..engine.dataset_configs import dataset_metainfo, datasets_in, named_classes
from ..engine.model_check import channels_of
from ..errors import UserError
from ..images import list_images
from ..reading import local_file
from .agreement import as_batch, compare, full_float32, logits_of, threshold_of, timing
from .artefacts import Artefact, ExportRequest, check_request
from .evaluation import Evaluation, has_labels
from .exporting import export
from .fusing import fuse_for_inference, fused_model_config
from .normalization import left_out, normalizer
from .replacing import check_replaceable, replacement
from .runtime import REPORT, sha256_of
from .sample_images import calibration_images, check_images, crop_or_enlarge

# Largest difference of logits, relative to the largest, and largest share of pixels (or images) whose class changes.
FUSING_LIMITS = (1e-4, 1e-3)


@dataclass
class DeployReport:
    """What deploying did to a model; sizes in parameters and bytes, times in milliseconds for one image."""
    unit: str  # What is classified: pixels or images.
    images: int
    real_images: bool
    logit_difference: float
    changed: float
    evaluated_images: int
    miou_before: float | None  # In per cent; None where it was not evaluated.
    miou_after: float | None
    parameters_before: int
    parameters_after: int
    bytes_before: int
    bytes_after: int | None  # None where the fused weights are not written by themselves.
    milliseconds_before: float
    milliseconds_after: float
    speedup: tuple[float, float, float]  # Quartiles of the ratio of the two, which were timed in turns.
    in_channels: int
    input_size: tuple[int, int]
    device: str
    artefacts: dict[str, Artefact]
    steps_left_out: list[str]  # Of the test pipeline, which exported files do not do.

    def lines(self) -> list[str]:
        """The report for a terminal."""
        kind = 'real' if self.real_images else 'random'
        height, width = self.input_size
        lines = [
            f'agreement on {self.images} {kind} image(s): logits differ by {self.logit_difference:.1e} of the largest, '
            f'{self.changed:.4%} of the {self.unit} change class',
            *([f'mIoU        {self.miou_before:>14.2f} -> {self.miou_after:>14.2f}   ({self.evaluated_images} images)']
              if self.miou_before is not None else []),
            f'parameters  {self.parameters_before:>14,} -> {self.parameters_after:>14,}']
        if self.bytes_after:
            lines.append(f'file (MB)   {self.bytes_before / 1e6:>14.1f} -> {self.bytes_after / 1e6:>14.1f}')
        lines.append(
            f'time (ms)   {self.milliseconds_before:>14.1f} -> {self.milliseconds_after:>14.1f}   '
            f'({self.speedup[1]:.2f}x faster, {self.speedup[0]:.2f}x to {self.speedup[2]:.2f}x in half of the turns; '
            f'1x{self.in_channels}x{height}x{width}, fp32, {self.device})')
        for name, artefact in self.artefacts.items():
            line = (f'{name:<18} logits differ by {artefact.logit_difference:.1e}, {artefact.changed:.4%} of the pixels change '
                    f'class; {artefact.bytes / 1e6:.1f} MB')
            if artefact.miou is not None:
                line += f'; mIoU {artefact.miou:.2f}'
            if artefact.higher_precision:
                line += f'; in higher precision: {", ".join(artefact.higher_precision)}'
            lines.append(line)
        if self.steps_left_out:
            lines.append(f'not in the exported files: {", ".join(self.steps_left_out)} of the test pipeline; give them images '
                         'after that')
        if self.artefacts:
            lines.append('how fast the exported files are: tools/benchmark.py artefacts')
        return lines


def deploy(config: Config, checkpoint: str, out: Path, images: str | None = None, request: ExportRequest | None = None,
           calibration: str | None = None, evaluate: bool = False) -> DeployReport:
    """Fuse a trained segmentor or classifier and write it as a folder of artefacts and a report.

    Backbone and head are fused, the auxiliary head is dropped. Nothing is written unless every artefact agrees with the trained
    model; an older folder is replaced at once, at the end.

    Args:
        config: the whole config of the trained model.
        checkpoint: its training checkpoint.
        out: folder to write; it may be one that was written before.
        images: image, folder or glob pattern for the comparison; by default of the test set, and where that is absent
            a random image.
        request: what to write; by default the fused weights with their config.
        calibration: image, folder or glob pattern for int8; by default of the training set.
        evaluate: compute the mIoU of everything on the test set, and refuse what loses more than ``MIOU_LIMIT``. For int8
            that is done wherever there are labels, and the size is that of the test.

    Returns:
        The report, which is also in the folder.

    Raises:
        UserError: the checkpoint does not fit, the models disagree, ``out`` holds something else or what is read, or the
            request cannot be met.
    """
    request = request or ExportRequest()
    check_request(request)
    if calibration and 'int8' not in request.precisions:
        raise UserError('--calibration is for int8 only; add --precision int8, or leave it out')
    out = out.resolve()  # A link stays, what it leads to is replaced.
    check_replaced(out, inputs_of(config, checkpoint, images, calibration))
    check_replaceable(out)
    if Path(checkpoint).is_dir():
        raise UserError(f'{checkpoint} is a folder; expected the training checkpoint, a .pth file')
    weights = local_file(checkpoint)
    device = mmengine.device.get_device()
    trained, trained_meta = build_trained(config, str(weights))
    is_segmentor = hasattr(trained, 'decode_head')
    check_same_classes(f'checkpoint {checkpoint}', trained_classes(trained_meta), 'the test set of the config',
                       dataset_metainfo(config)['classes'] if is_segmentor else named_classes(config))
    if not is_segmentor and set(request.formats) != {'pth'}:
        raise UserError('a classifier can be fused only, its backbone is exported with the segmentor that it becomes part of; '
                        'leave --formats out')
    if evaluate and not is_segmentor:
        raise UserError('--eval is for segmentors; test a classifier with tools/classify_test.py')
    exports = set(request.formats) != {'pth'}
    channels = channels_of(config.model)
    pictures, real = check_images(config, images, channels, normalized=not exports)
    if exports:
        check_pixels(pictures, channels)
    calibration_pictures = calibration_images(config, calibration) if 'int8' in request.precisions else []
    if request.size:
        pictures, calibration_pictures = ([crop_or_enlarge(picture, request.size) for picture in group]
                                          for group in (pictures, calibration_pictures))
    fused = fuse_for_inference(trained.to(device))
    normalize = normalizer(config) if exports else lambda picture: picture
    batches = [as_batch(trained, normalize(picture)) for picture in pictures]
    with full_float32():
        logit_difference, changed = compare(((logits_of(trained, batch), logits_of(fused, batch)) for batch in batches),
                                            threshold_of(trained))
    unit = 'pixels' if is_segmentor else 'images'
    if not (logit_difference <= FUSING_LIMITS[0] and changed <= FUSING_LIMITS[1]):
        raise UserError(f'the fused model differs from the trained one: logits by {logit_difference:.1e} of the largest '
                        f'(limit {FUSING_LIMITS[0]:.0e}), {changed:.3%} of the {unit} (limit {FUSING_LIMITS[1]:.1%}); '
                        'nothing was written')
    evaluation = evaluation_for(config, request, evaluate)
    miou_before, miou_after = (evaluation and evaluation.of_model(model, f'the {name} model')
                               for model, name in ((trained, 'trained'), (fused, 'fused')))
    before, after = timing([lambda model=model: logits_of(model, batches[0]) for model in (trained, fused)])
    ratios = statistics.quantiles([first / second for first, second in zip(before, after)], n=4)
    report = DeployReport(
        unit=unit, images=len(pictures), real_images=real, logit_difference=logit_difference, changed=changed,
        evaluated_images=evaluation.images if evaluation else 0, miou_before=miou_before, miou_after=miou_after,
        parameters_before=count(trained), parameters_after=count(fused), bytes_before=os.path.getsize(weights),
        bytes_after=None, milliseconds_before=statistics.median(before),
        milliseconds_after=statistics.median(after), speedup=tuple(ratios), in_channels=batches[0].shape[1],
        input_size=tuple(batches[0].shape[2:]),
        device=torch.cuda.get_device_name() if device == 'cuda' else f'{device}, {torch.get_num_threads()} threads',
        artefacts={}, steps_left_out=left_out(config) if exports else [])
    info = dict(repvgg_seg_version=__version__, torch_version=str(torch.__version__), source=Path(checkpoint).name,
                source_sha256=sha256_of(weights))

    with replacement(out) as temporary:
        if 'pth' in request.formats:
            meta = dict(info, fused=True,
                        dataset_meta=dataset_metainfo(config) if is_segmentor else trained_meta.get('dataset_meta', {}))
            write_fused(temporary, fused, fused_model_config(config), meta)
            report.bytes_after = os.path.getsize(temporary / FUSED_WEIGHTS)
            info['files'] = {name: sha256_of(temporary / name) for name in (FUSED_CONFIG, FUSED_WEIGHTS)}
        if is_segmentor:
            info.update(dataset_metainfo(config))
        if set(request.formats) != {'pth'}:
            report.artefacts, description = export(trained.cpu(), fused.cpu(), config, pictures, request, temporary,
                                                   calibration_pictures, evaluation, miou_before)
            info.update(description)
        (temporary / REPORT).write_text(json.dumps({**info, **asdict(report)}, indent=2))
    return report


def inputs_of(config: Config, checkpoint: str, *images: str | None) -> Iterator[str | Path]:
    """What deploying reads: config, checkpoint, images that the user names, and the folders of the datasets."""
    yield from [*files_of_config(config), checkpoint]
    for source in filter(None, images):
        yield from list_images(source)
    for name in ('train', 'test'):
        for dataset in datasets_in(config[f'{name}_dataloader'].dataset):
            prefix = dataset.get('data_prefix') or ''
            for folder in prefix.values() if isinstance(prefix, dict) else [prefix]:
                if path := os.path.join(dataset.get('data_root') or '', folder or ''):
                    yield path


def evaluation_for(config: Config, request: ExportRequest, demanded: bool) -> Evaluation | None:
    """What everything is evaluated by: where that is demanded, or int8 is asked for and there are labels.

    Raises:
        UserError: it is demanded, but what is exported takes images of another size than the test has.
    """
    if not (demanded or ('int8' in request.precisions and has_labels(config))):
        return None
    evaluation = Evaluation(config)
    if request.size in (None, size := evaluation.size()):
        return evaluation
    if demanded:
        raise UserError(f'--eval compares with the trained model, which gets {size[0]}x{size[1]} pixels of the test set; use '
                        f'--size {size[0]} {size[1]}, or leave it out')
    return None  # Cut into other windows, the same network has another mIoU.


def write_fused(folder: Path, fused: nn.Module, config: Config, meta: dict) -> None:
    """Write weights and config of a fused model, and check that they are read back as they were.

    Raises:
        UserError: they are not.
    """
    config.dump(folder / FUSED_CONFIG)
    state = {key: value.cpu() for key, value in fused.state_dict().items()}
    buffer = io.BytesIO()  # PyTorch does not say that a disk is full.
    torch.save(dict(meta=meta, state_dict=state), buffer)
    (folder / FUSED_WEIGHTS).write_bytes(buffer.getbuffer())
    reloaded = build_trained(config, str(folder))[0].state_dict()
    if list(reloaded) != list(state) or not all(torch.equal(value, reloaded[key]) for key, value in state.items()):
        raise UserError('the written model differs from the fused one when it is read back; nothing was written')


def check_pixels(pictures: Sequence[np.ndarray], channels: int) -> None:
    """Check that images are such as exported files take.

    Raises:
        UserError: they have more than 8 bits, or other channels than the network takes.
    """
    for picture in pictures:
        if picture.dtype != np.uint8 or picture.shape[2] != channels:
            raise UserError(f'the test pipeline gives images of {picture.dtype} with {picture.shape[2]} channel(s), but '
                            f'exported files take uint8 with {channels} (model.backbone.in_channels); convert the images, or '
                            'leave --formats out')


def count(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
