"""Test and predict with files that ``repvgg-seg deploy`` exported, using the same datasets and metrics."""
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from torch import Tensor

from ..core.errors import CheckpointError, UserError
from ..core.reading import trusted
from ..core.tasks import CLASSIFICATION, MODEL_KINDS, SEGMENTATION, task_of
from ..registry import MODELS
from ..runtime.backend import CPU
from ..runtime.backends import BACKENDS
from ..runtime.predictor import PROGRAM, Predictor, load
from ..runtime.report import REPORT, read_record
from .classes import check_same_classes
from .dataset_configs import datasets_in
from .pipelines import without_normalize
from .trained_model import FUSED_CONFIG


def is_exported(checkpoint: str) -> bool:
    """Whether a checkpoint argument is an exported file, or a folder that contains exported files but no fused weights."""
    path = Path(checkpoint)
    if path.name.endswith(tuple(BACKENDS)):
        return True
    return path.is_dir() and (path / REPORT).is_file() and not (path / FUSED_CONFIG).is_file()


def load_exported(checkpoint: str, device: str = CPU) -> Predictor:
    """Load an exported file that was given as a checkpoint.

    Args:
        checkpoint: file or folder.
        device: device that it runs on, see :func:`repvgg_seg.runtime.predictor.load`.

    Raises:
        UserError: the file cannot be loaded, was changed after it was exported, or does not run on the device.
        CheckpointError: the file is a program, and checkpoints are not trusted.
    """
    refuse_program(Path(checkpoint))
    return load(checkpoint, verify=not trusted(), device=device)


def classes_of_exported(checkpoint: str) -> list[str]:
    """Names of the classes of an exported file that was given as a checkpoint.

    Raises:
        UserError: it is described neither by a ``deploy.json`` nor by itself, or the description is invalid.
    """
    return read_record(Path(checkpoint)).get('classes') or []


def refuse_program(path: Path) -> None:
    """Reject a ``.pt2`` file, which can run arbitrary code, unless checkpoints are trusted.

    Raises:
        CheckpointError: the file is a ``.pt2`` file, and checkpoints are not trusted.
    """
    if path.suffix == PROGRAM and not trusted():
        raise CheckpointError(f'{path} is a program, which can run any code; if you know who made it, add --trust-checkpoint, '
                              'else use another format')


def window_of(config: Config) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """Size and stride (height and width each) of the config's sliding window; None and None without a sliding window."""
    test_cfg: ConfigDict = config.model.get('test_cfg') or ConfigDict()
    return (test_cfg.crop_size, test_cfg.stride) if test_cfg.get('mode') == 'slide' else (None, None)


def exported_config(config: Config, checkpoint: str, device: str = CPU) -> dict:
    """Return the model config of an exported file, which replaces the config's model.

    An exported segmentor splits images into windows as the config's segmentor does. ``Normalize`` steps are removed from the
    config's test pipelines, because the exported file already includes normalization.
    """
    normalize_no_more(config)
    if task_of(config.model) == CLASSIFICATION:
        return dict(type='repvgg_seg.ExportedClassifier', source=checkpoint, device=device)
    window, stride = window_of(config)
    return dict(type='repvgg_seg.ExportedSegmentor', source=checkpoint, window=window, stride=stride, device=device)


def normalize_no_more(config: Config) -> None:
    """Remove the ``Normalize`` steps from the test pipelines of a config."""
    for dataset in datasets_in(config.test_dataloader.dataset):
        dataset.pipeline = without_normalize(dataset.pipeline)[0]


class ExportedModel(BaseModel):
    """Wrapper that allows an exported file to be tested like a model.

    Args:
        source: exported file or its folder, or the predictor that :func:`repvgg_seg.runtime.predictor.load` returns for it.
        device: device that the file is loaded on.

    Raises:
        UserError: the file was exported from a model for a different task.
    """

    task: str

    def __init__(self, source: str | Predictor, device: str = CPU) -> None:
        super().__init__()
        self.predictor = source if isinstance(source, Predictor) else load_exported(source, device)
        if self.predictor.task != self.task:
            raise UserError(f'{source} is an exported {MODEL_KINDS[self.predictor.task]}, the config is for a '
                            f'{MODEL_KINDS[self.task]}; give the config that it was trained with')

    def pixels_of(self, image: Tensor) -> np.ndarray:
        """Convert a BGR image (C, H, W) from a test pipeline to (H, W, C), in the channel order that the file takes."""
        pixels = image.permute(1, 2, 0).numpy()
        return pixels[..., ::-1] if self.predictor.channels == 'RGB' else pixels

    def test_step(self, data: dict) -> list:
        """Predict a batch of a data loader. It is not normalized, because the exported file does that."""
        return self(data['inputs'], data['data_samples'])

    val_step = test_step


@MODELS.register_module()
class ExportedSegmentor(ExportedModel):
    """Wrapper that allows an exported file to be tested like a segmentor.

    Args:
        source, device: see :class:`ExportedModel`.
        window: height and width of the sliding window for larger images; None to process whole images.
        stride: vertical and horizontal stride of the sliding window.
    """

    task = SEGMENTATION

    def __init__(self, source: str | Predictor, window: tuple[int, int] | None = None,
                 stride: tuple[int, int] | None = None, device: str = CPU) -> None:
        super().__init__(source, device)
        self.window = window
        self.overlap = (window[0] - stride[0], window[1] - stride[1]) if window and stride else (0, 0)
        if window and self.predictor.size and tuple(window) != self.predictor.size:
            raise UserError(f'{source} takes images of {self.predictor.size}, but the config tests in windows of '
                            f'{tuple(window)}; set model.test_cfg.crop_size, or export without --size')

    def forward(self, inputs: list[Tensor], data_samples: list, mode: str = 'predict') -> list:
        """Segment images.

        Args:
            inputs: images as the test pipeline packs them, each BGR (C, H, W), uint8 or uint16.
            data_samples: MMSegmentation's data samples, one for each image.
            mode: always 'predict', because an exported file cannot be trained.

        Returns:
            The samples with ``pred_sem_seg``, class indices (1, H, W) at the size of the original image; and, if the file
            returns logits, ``seg_logits`` as MMSegmentation's segmentors do.
        """
        for image, sample in zip(inputs, data_samples):
            output = torch.from_numpy(self.predictor(self.pixels_of(image), self.window, self.overlap))
            size = sample.ori_shape
            if self.predictor.artifact['output'] == 'logits':
                logits = F.interpolate(output[None], size, mode='bilinear', align_corners=self.predictor.align_corners)[0]
                if len(logits) == 1:
                    logits = logits.sigmoid()
                    labels = (logits > self.predictor.threshold).long()
                else:
                    labels = logits.argmax(0, keepdim=True)
                sample.seg_logits = PixelData(data=logits)
            else:
                labels = output[None]
                if labels.shape[1:] != size:
                    labels = F.interpolate(labels[None], size=size, mode='nearest-exact')[0]
            sample.pred_sem_seg = PixelData(data=labels.long())
        return data_samples


@MODELS.register_module()
class ExportedClassifier(ExportedModel):
    """Wrapper that allows an exported file to be tested like a classifier; see :class:`ExportedModel`."""

    task = CLASSIFICATION

    def forward(self, inputs: Tensor | list[Tensor], data_samples: list, mode: str = 'predict') -> list:
        """Classify images.

        Args:
            inputs: images as the test pipeline packs them, each BGR (C, H, W), uint8 or uint16.
            data_samples: MMPretrain's data samples, one for each image.
            mode: always 'predict', because an exported file cannot be trained.

        Returns:
            The samples with ``pred_label`` and, if the file returns logits, ``pred_score``, the softmax of the logits (C,).
        """
        for image, sample in zip(inputs, data_samples):
            output = torch.from_numpy(self.predictor(self.pixels_of(image)))
            if self.predictor.artifact['output'] == 'logits':
                sample.set_pred_score(output.softmax(0))
                output = output.argmax(0)
            sample.set_pred_label(output)
        return data_samples


def check_classes_of_export(model: ExportedModel, classes: Sequence[str]) -> None:
    """Check that an exported model and a dataset have the same classes.

    Raises:
        UserError: the classes differ.
    """
    check_same_classes(f'the exported {MODEL_KINDS[model.task]}', model.predictor.classes, 'the test set', classes)
