"""Fuse a trained segmentor, prove that it gives the same answer, and only then write it."""
import copy
import hashlib
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import mmengine.device
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from torch import Tensor, nn

from .. import __version__
from ..engine.prediction import dataset_metainfo, find_images
from ..engine.segmentor import FUSED_CONFIG, FUSED_WEIGHTS, build_segmentor
from ..engine.testing import without_labels
from ..errors import UserError
from .fusing import fuse

REPORT = 'deploy.json'
LOGIT_LIMIT = 1e-4  # Largest difference of float32 logits, relative to the largest logit.
PIXEL_LIMIT = 1e-3  # Largest share of pixels whose class changes: ties that rounding decides.
CHECKED_IMAGES = 4
TIMED_ROUNDS = 10
RANDOM_SIZE = (512, 512)  # Height and width of the check image where there is no real one.


@dataclass
class DeployReport:
    """What fusing did to a segmentor; sizes in parameters and bytes, times in milliseconds for one image."""
    images: int
    real_images: bool
    logit_difference: float
    changed_pixels: float
    parameters_before: int
    parameters_after: int
    bytes_before: int
    bytes_after: int
    milliseconds_before: float
    milliseconds_after: float
    input_size: tuple[int, int]
    device: str

    def lines(self) -> list[str]:
        """The report for a terminal."""
        kind = 'real' if self.real_images else 'random'
        height, width = self.input_size
        return [
            f'agreement on {self.images} {kind} image(s): logits differ by {self.logit_difference:.1e} of the largest, '
            f'{self.changed_pixels:.4%} of the pixels change class',
            f'parameters  {self.parameters_before:>14,} -> {self.parameters_after:>14,}',
            f'file (MB)   {self.bytes_before / 1e6:>14.1f} -> {self.bytes_after / 1e6:>14.1f}',
            f'time (ms)   {self.milliseconds_before:>14.1f} -> {self.milliseconds_after:>14.1f}   '
            f'({self.milliseconds_before / self.milliseconds_after:.2f}x faster; 1x3x{height}x{width}, fp32, {self.device})',
        ]


def deploy_segmentor(config: Config, checkpoint: str, out: Path, images: str | None = None) -> DeployReport:
    """Fuse a trained segmentor and write it as a folder with weights, config and report.

    Backbone and decode head are fused, the auxiliary head is dropped. Nothing is written unless the fused model agrees
    with the trained one; an older folder is replaced at once, at the end.

    Args:
        config: the whole config of the trained model.
        checkpoint: its training checkpoint.
        out: folder to write; it may be one that was written before.
        images: image, folder or glob pattern for the comparison; by default the first images of the test set, and where
            that is absent a random image.

    Returns:
        The report, which is also in the folder.

    Raises:
        UserError: the checkpoint does not fit, the models disagree, or ``out`` holds something else.
    """
    if out.exists() and not (out / REPORT).is_file() and any(out.iterdir()):
        raise UserError(f'folder {out} is not empty and was not written by this tool; choose another one')
    if Path(checkpoint).is_dir():
        raise UserError(f'{checkpoint} is a folder; expected the training checkpoint, a .pth file')
    device = mmengine.device.get_device()
    trained = build_segmentor(config, checkpoint).to(device)
    fused = fuse_segmentor(trained)
    inputs, real = check_inputs(config, trained, images)
    logit_difference, changed_pixels = compare(trained, fused, inputs)
    if not (logit_difference <= LOGIT_LIMIT and changed_pixels <= PIXEL_LIMIT):
        raise UserError(f'the fused model differs from the trained one: logits by {logit_difference:.1e} of the largest '
                        f'(limit {LOGIT_LIMIT:.0e}), {changed_pixels:.3%} of the pixels (limit {PIXEL_LIMIT:.1%}); '
                        'nothing was written')
    before, after = timing([trained, fused], inputs[0])
    report = DeployReport(
        images=len(inputs), real_images=real, logit_difference=logit_difference, changed_pixels=changed_pixels,
        parameters_before=count(trained), parameters_after=count(fused), bytes_before=os.path.getsize(checkpoint),
        bytes_after=0, milliseconds_before=before, milliseconds_after=after, input_size=tuple(inputs[0].shape[2:]),
        device=torch.cuda.get_device_name() if device == 'cuda' else f'{device}, {torch.get_num_threads()} threads')

    temporary = Path(tempfile.mkdtemp(prefix=f'.{out.name}-', dir=out.parent))
    try:
        fused_config = fused_model_config(config)
        fused_config.dump(temporary / FUSED_CONFIG)
        metainfo = dataset_metainfo(config)
        meta = dict(
            fused=True, repvgg_seg_version=__version__, torch_version=str(torch.__version__), source=Path(checkpoint).name,
            source_sha256=hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest(),
            dataset_meta=dict(classes=list(metainfo['classes']), palette=[list(color) for color in metainfo['palette']]))
        torch.save(dict(meta=meta, state_dict=fused.cpu().state_dict()), temporary / FUSED_WEIGHTS)
        report.bytes_after = os.path.getsize(temporary / FUSED_WEIGHTS)
        (temporary / REPORT).write_text(json.dumps(asdict(report), indent=2))
        reloaded = build_segmentor(fused_config, str(temporary)).to(inputs[0].device)
        if compare(fused.to(inputs[0].device), reloaded, inputs[:1])[0] != 0:
            raise UserError('the written model differs from the fused one when it is read back; nothing was written')
        temporary.chmod(0o755)
        if out.exists():
            out.rename(temporary / 'replaced')
        temporary.rename(out)
        shutil.rmtree(out / 'replaced', ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return report


def fuse_segmentor(model: nn.Module) -> nn.Module:
    """A fused copy of a segmentor, without its auxiliary head. Backbones other than RepVGG are left as they are."""
    model = copy.deepcopy(model).eval()
    if hasattr(model.backbone, 'switch_to_deploy'):
        fuse(model.backbone, inplace=True)
    fuse(model.decode_head, inplace=True)
    model.auxiliary_head = None
    return model


def fused_model_config(config: Config) -> Config:
    """The config that builds what :func:`fuse_segmentor` returns: ``deploy=True``, no norms in the head."""
    config = copy.deepcopy(config)
    for key in ('work_dir', 'launcher', 'resume', 'load_from'):
        config.pop(key, None)
    model = config.model
    model.backbone.init_cfg = None
    if model.backbone.type.rpartition('.')[2] == 'RepVGG':
        model.backbone.deploy = True
    for head in model.decode_head if isinstance(model.decode_head, list) else [model.decode_head]:
        if (head.get('norm_cfg') or {}).get('type', '').endswith('BN'):  # BN, SyncBN, MMSyncBN
            head.norm_cfg = None
    model.auxiliary_head = None
    return config


def check_inputs(config: Config, model: nn.Module, images: str | None) -> tuple[list[Tensor], bool]:
    """Normalised input batches (1, 3, H, W) for the comparison, at most a test window large, and whether they are real."""
    paths = list(find_images(images).values()) if images else test_images(config)
    device = next(model.parameters()).device
    if not paths:
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(1, 3, *RANDOM_SIZE, generator=generator).to(device)], False
    pipeline = Compose(without_labels(config.test_dataloader.dataset.pipeline))
    height, width = config.model.test_cfg.get('crop_size') or (None, None)
    batches = []
    for path in paths[:CHECKED_IMAGES]:
        data = pipeline(dict(img_path=str(path), seg_fields=[], label_map=None, reduce_zero_label=False))
        batch = model.data_preprocessor(pseudo_collate([data]), training=False)['inputs']
        batches.append(batch[..., :height, :width])
    return batches, True


def test_images(config: Config) -> list[Path]:
    """Paths of the test set's images; empty where the data set is not on this machine."""
    dataset = config.test_dataloader.dataset
    folder = Path(dataset.get('data_root') or '', dataset.data_prefix.img_path)
    return list(find_images(str(folder)).values()) if folder.is_dir() else []


@torch.no_grad()
def compare(model: nn.Module, other: nn.Module, inputs: Sequence[Tensor]) -> tuple[float, float]:
    """How far two segmentors differ.

    Args:
        model: the reference.
        other: the one to judge.
        inputs: batches (N, 3, H, W).

    Returns:
        The largest difference of logits divided by the largest logit, and the share of pixels whose class changes.
    """
    difference, changed, pixels = 0.0, 0, 0
    for batch in inputs:
        logits, others = model(batch), other(batch)
        difference = max(difference, ((logits - others).abs().max() / logits.abs().max()).item())
        labels, other_labels = (F.interpolate(output, batch.shape[2:], mode='bilinear',
                                              align_corners=model.align_corners).argmax(1) for output in (logits, others))
        changed += int((labels != other_labels).sum())
        pixels += labels.numel()
    return difference, changed / pixels


@torch.no_grad()
def timing(models: Sequence[nn.Module], batch: Tensor) -> list[float]:
    """Median milliseconds of a forward pass of each model, measured in turns after one warm-up turn."""
    times: list[list[float]] = [[] for _ in models]
    for turn in range(1 + TIMED_ROUNDS):
        for model, record in zip(models, times):
            synchronize(batch.device)
            start = time.perf_counter()
            model(batch)
            synchronize(batch.device)
            if turn > 0:
                record.append(1000 * (time.perf_counter() - start))
    return [statistics.median(record) for record in times]


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished its work; CPUs always have."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def count(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
