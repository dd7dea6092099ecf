"""Fuse a trained model, prove that it gives the same answer, and only then write it as a folder."""
import copy
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import mmengine.device
import torch
from mmengine.config import Config
from torch import nn

from .. import __version__
from ..engine.building import FUSED_CONFIG, FUSED_WEIGHTS, build_trained
from ..engine.prediction import dataset_metainfo
from ..errors import UserError
from .agreement import check_inputs, compare, timing
from .fusing import fuse

REPORT = 'deploy.json'
LOGIT_LIMIT = 1e-4  # Largest difference of float32 logits, relative to the largest logit.
CHANGE_LIMIT = 1e-3  # Largest share of pixels (of a classifier: of images) whose class changes: ties that rounding decides.


@dataclass
class DeployReport:
    """What fusing did to a model; sizes in parameters and bytes, times in milliseconds for one image."""
    unit: str  # What is classified: pixels or images.
    images: int
    real_images: bool
    logit_difference: float
    changed: float
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
            f'{self.changed:.4%} of the {self.unit} change class',
            f'parameters  {self.parameters_before:>14,} -> {self.parameters_after:>14,}',
            f'file (MB)   {self.bytes_before / 1e6:>14.1f} -> {self.bytes_after / 1e6:>14.1f}',
            f'time (ms)   {self.milliseconds_before:>14.1f} -> {self.milliseconds_after:>14.1f}   '
            f'({self.milliseconds_before / self.milliseconds_after:.2f}x faster; 1x3x{height}x{width}, fp32, {self.device})',
        ]


def deploy(config: Config, checkpoint: str, out: Path, images: str | None = None) -> DeployReport:
    """Fuse a trained segmentor or classifier and write it as a folder with weights, config and report.

    Backbone and head are fused, the auxiliary head is dropped. Nothing is written unless the fused model agrees with the
    trained one; an older folder is replaced at once, at the end.

    Args:
        config: the whole config of the trained model.
        checkpoint: its training checkpoint.
        out: folder to write; it may be one that was written before.
        images: image, folder or glob pattern for the comparison; by default of the test set, and where that is absent
            a random image.

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
    trained, trained_meta = build_trained(config, checkpoint)
    fused = fuse_for_inference(trained.to(device))
    is_segmentor = hasattr(trained, 'decode_head')
    inputs, real = check_inputs(config, trained, images)
    logit_difference, changed = compare(trained, fused, inputs)
    unit = 'pixels' if is_segmentor else 'images'
    if not (logit_difference <= LOGIT_LIMIT and changed <= CHANGE_LIMIT):
        raise UserError(f'the fused model differs from the trained one: logits by {logit_difference:.1e} of the largest '
                        f'(limit {LOGIT_LIMIT:.0e}), {changed:.3%} of the {unit} (limit {CHANGE_LIMIT:.1%}); '
                        'nothing was written')
    before, after = timing([trained, fused], inputs[0])
    report = DeployReport(
        unit=unit, images=len(inputs), real_images=real, logit_difference=logit_difference, changed=changed,
        parameters_before=count(trained), parameters_after=count(fused), bytes_before=os.path.getsize(checkpoint),
        bytes_after=0, milliseconds_before=before, milliseconds_after=after, input_size=tuple(inputs[0].shape[2:]),
        device=torch.cuda.get_device_name() if device == 'cuda' else f'{device}, {torch.get_num_threads()} threads')

    temporary = Path(tempfile.mkdtemp(prefix=f'.{out.name}-', dir=out.parent))
    try:
        fused_config = fused_model_config(config)
        fused_config.dump(temporary / FUSED_CONFIG)
        meta = dict(
            fused=True, repvgg_seg_version=__version__, torch_version=str(torch.__version__), source=Path(checkpoint).name,
            source_sha256=hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest(),
            dataset_meta=dataset_metainfo(config) if is_segmentor else trained_meta.get('dataset_meta', {}))
        torch.save(dict(meta=meta, state_dict=fused.cpu().state_dict()), temporary / FUSED_WEIGHTS)
        report.bytes_after = os.path.getsize(temporary / FUSED_WEIGHTS)
        (temporary / REPORT).write_text(json.dumps(asdict(report), indent=2))
        reloaded = build_trained(fused_config, str(temporary))[0].to(inputs[0].device)
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


def fuse_for_inference(model: nn.Module) -> nn.Module:
    """A fused copy of a segmentor, without its auxiliary head, or of a classifier.

    Backbones other than RepVGG are left as they are.
    """
    model = copy.deepcopy(model).eval()
    if hasattr(model.backbone, 'switch_to_deploy'):
        fuse(model.backbone, inplace=True)
    if hasattr(model, 'decode_head'):
        fuse(model.decode_head, inplace=True)
        model.auxiliary_head = None
    return model


def fused_model_config(config: Config) -> Config:
    """The config that builds what :func:`fuse_for_inference` returns: ``deploy=True``, no norms in the head."""
    config = copy.deepcopy(config)
    for key in ('work_dir', 'launcher', 'resume', 'load_from'):
        config.pop(key, None)
    model = config.model
    model.backbone.init_cfg = None
    if model.backbone.type.rpartition('.')[2] == 'RepVGG':
        model.backbone.deploy = True
    if 'decode_head' in model:
        for head in model.decode_head if isinstance(model.decode_head, list) else [model.decode_head]:
            if (head.get('norm_cfg') or {}).get('type', '').endswith('BN'):  # BN, SyncBN, MMSyncBN
                head.norm_cfg = None
        model.auxiliary_head = None
    return config


def count(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
