"""The deployment plan: what to export and how to check it, read from a config once."""
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope

from ..core.config_types import type_name
from ..core.configs import files_of_config
from ..core.errors import UserError
from ..core.images import list_images
from ..core.tasks import MODEL_KINDS, task_of
from ..engine.dataset_configs import datasets_in
from ..engine.model_check import channels_of, preprocessor_of
from ..runtime.report import PIXELS
from .formats import ExportRequest
from .normalization import Normalization, left_out, normalization_of, normalizer
from .sample_images import calibration_images, check_images, crop_or_enlarge
from .tasks import TASKS, Task


@dataclass(frozen=True)
class DeployPlan:
    """Everything that deployment needs from a config and an export request.

    Args:
        task: task of the model.
        request: files to write and checks to run.
        classes: names of the classes in the test set, by index; empty if the config does not name them.
        palette: RGB color of each class; empty for classifiers.
        normalization: normalization that is part of exported files.
        normalize: function that applies the test pipeline's ``Normalize`` step to images (H, W, C).
        architecture: ``backbone``, ``arch``, and ``dilation`` as written to ``deploy.json``.
        steps_left_out: names of the steps of the test pipeline that exported files do not include.
        pictures: images for the comparison, BGR (H, W, C); uint8 or uint16, and not normalized, if files are exported.
        real_images: whether ``pictures`` were read from files rather than generated at random.
        calibration: calibration images for int8, BGR (H, W, C), of the same dtype, not normalized.
    """
    task: Task
    request: ExportRequest
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]
    normalization: Normalization
    normalize: Callable[[np.ndarray], np.ndarray]
    architecture: dict[str, object]
    steps_left_out: list[str]
    pictures: list[np.ndarray]
    real_images: bool
    calibration: list[np.ndarray]

    @classmethod
    def of(cls, config: Config, request: ExportRequest) -> 'DeployPlan':
        """Create the plan from a config and a request, and read the images.

        Args:
            config: full config of the trained model.
            request: files to write and checks to run, checked by :func:`~repvgg_seg.deploy.formats.check_request`.

        Raises:
            UserError: the images of the config cannot be exported, or cannot be read.
        """
        init_default_scope(config.get('default_scope', 'mmseg'))
        task, exports = TASKS[task_of(config.model)], request.exports
        classes, palette = task.metainfo(config)
        channels = channels_of(config.model)
        normalization = Normalization(channels)
        if exports:
            normalization = normalization_of(config)
            check_padding(config)
            if channels != 3 and request.channels != 'RGB':
                raise UserError(f'--channels is for images of 3 channels, this {MODEL_KINDS[task.name]} takes {channels}; '
                                'leave it out')
        pictures, real = check_images(config, request.images, channels, normalized=not exports)
        calibration = calibration_images(config, request.calibration) if 'int8' in request.precisions else []
        if exports:
            check_pixels([*pictures, *calibration], channels)
        if request.size:
            pictures = [crop_or_enlarge(picture, request.size) for picture in pictures]
            calibration = [crop_or_enlarge(picture, request.size) for picture in calibration]
        backbone = config.model.backbone
        return cls(
            task, request, classes, palette, normalization, normalizer(config) if exports else lambda picture: picture,
            dict(backbone=type_name(backbone), arch=backbone.get('arch'), dilation=backbone.get('dilation')),
            left_out(config) if exports else [], pictures, real, calibration)

    @property
    def metainfo(self) -> dict[str, list]:
        """``classes`` and ``palette`` as a dict; empty for classifiers, whose classes have no colors."""
        return dict(classes=list(self.classes), palette=list(self.palette)) if self.palette else {}

    @property
    def channels(self) -> str | None:
        """Channel order of the images that exported files take; None unless the images have three channels."""
        return self.request.channels if self.normalization.channels == 3 else None

    @property
    def dtype(self) -> str:
        """Dtype of the images that exported files take, 'uint8' or 'uint16': that of the images of the test pipeline."""
        return self.pictures[0].dtype.name

    def ordered(self, picture: np.ndarray) -> np.ndarray:
        """Return a BGR picture (H, W, C) with its channels in the order that exported files take."""
        return np.ascontiguousarray(picture[..., ::-1]) if self.channels == 'RGB' else picture


def inputs_of(config: Config, checkpoint: str, request: ExportRequest) -> Iterator[str | Path]:
    """Yield all inputs of a deployment: the config, the checkpoint, user-supplied images, the dataset folders, and
    onnxruntime-web."""
    yield from files_of_config(config)
    yield checkpoint
    yield from filter(None, [request.onnxruntime_web])
    for source in filter(None, (request.images, request.calibration)):
        yield from list_images(source)
    for name in ('train', 'test'):
        for dataset in datasets_in(config[f'{name}_dataloader'].dataset):
            prefix = dataset.get('data_prefix') or ''
            for folder in prefix.values() if isinstance(prefix, dict) else [prefix]:
                if path := os.path.join(dataset.get('data_root') or '', folder or ''):
                    yield path


def check_padding(config: Config) -> None:
    """Check that the preprocessor of a config does not pad images, because exported files do not include padding.

    Raises:
        UserError: the preprocessor pads images.
    """
    preprocessor = preprocessor_of(config)
    for key in ('test_cfg', 'pad_size_divisor'):
        if preprocessor.get(key, 1) not in (1, None, {}):
            value = dict(preprocessor[key]) if isinstance(preprocessor[key], dict) else preprocessor[key]
            raise UserError(f'images that the preprocessor pads cannot be exported, got {key}={value}; remove '
                            f'data_preprocessor.{key}')


def check_pixels(pictures: Sequence[np.ndarray], channels: int) -> None:
    """Check that exported files can take the images.

    Raises:
        UserError: an image is neither uint8 nor uint16, differs in that from the others, or its number of channels differs from
            what the network takes.
    """
    for picture in pictures:
        if picture.dtype.name not in PIXELS or picture.shape[2] != channels:
            raise UserError(f'the test pipeline gives images of {picture.dtype} with {picture.shape[2]} channel(s), but '
                            f'exported files take {" or ".join(PIXELS)} with {channels} (model.backbone.in_channels); convert '
                            'the images, or leave --formats out')
        if picture.dtype != pictures[0].dtype:
            raise UserError(f'the images have different numbers of bits, {pictures[0].dtype} and {picture.dtype}; exported '
                            'files take one of them, so convert the images')
