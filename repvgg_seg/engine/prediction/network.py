"""Segmenting images with a trained model or an exported file, whole or in tiles."""
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor

from ...core.errors import DataError, UserError
from ...core.labels import IGNORE
from ...core.visualization import viewable
from ...datasets.loading import image_pipeline
from ...runtime.backend import CPU
from ...runtime.predictor import OVERLAP, Window, windows
from ..classes import check_same_classes, trained_classes
from ..dataset_configs import dataset_metainfo, test_pipeline
from ..exported import ExportedSegmentor, check_classes_of_export, exported_config, is_exported
from ..hardware import torch_device
from ..model_check import channels_of
from ..trained_model import build_trained
from .sources import Frame

MAX_LOGITS = 2**32  # Bytes of the logits of an image; larger images have to be split into tiles.


@dataclass(frozen=True)
class Tiling:
    """Splitting of images into tiles, whose overlaps are divided in the middle.

    Args:
        size: height and width of a tile in pixels.
        overlap: overlap of neighboring tiles in pixels; by default 64, but at most half a tile.
    """
    size: tuple[int, int]
    overlap: int | None = None

    def tiles(self, height: int, width: int) -> Iterator[tuple[Window, Window]]:
        """Cover an image of a size with tiles: a window along each axis."""
        rows, columns = (windows(size, min(size, limit), min(OVERLAP, limit // 2) if self.overlap is None else self.overlap)
                         for size, limit in zip((height, width), self.size))
        return product(rows, columns)


class Picture(NamedTuple):
    """A frame that was read.

    Args:
        frame: the frame.
        image: how it can be displayed, uint8 RGB (H, W, 3).
        parts: where each part of the image is, and the part as the test pipeline passes it to the model.
    """
    frame: Frame
    image: np.ndarray
    parts: Iterable[tuple[Window, Window, dict]]


class Prediction(NamedTuple):
    """A segmented frame.

    Args:
        frame, image: see :class:`Picture`.
        labels: class indices, uint8 (H, W); 255 if the confidence is too low.
        confidence: probability of the predicted class, float32 (H, W), 0 to 1; empty unless it is needed.
    """
    frame: Frame
    image: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray


class Segmenter:
    """A segmentor with its test pipeline.

    Args:
        model: segmentor, or an exported one.
        pipeline: test pipeline, as in a config.
        channels: number of channels that the model takes.
        classes: number of classes.
        tiling: how to split images; None to process whole images.
        min_confidence: smallest probability of the predicted class with which a pixel gets it, 0 to 1.
        confident: whether to return the confidence.

    Attributes:
        abstains: whether pixels can be unknown.
        seconds: time that the model has taken so far.

    Raises:
        UserError: the exported file returns labels, but a confidence is requested; or tiles would be resized.
    """

    def __init__(self, model: BaseModel, pipeline: Sequence, channels: int, classes: int, tiling: Tiling | None = None,
                 min_confidence: float | None = None, confident: bool = False) -> None:
        self.model, self.channels, self.classes, self.tiling = model, channels, classes, tiling
        self.min_confidence, self.confident = min_confidence, confident or min_confidence is not None
        self.exported = model.predictor if isinstance(model, ExportedSegmentor) else None
        if self.exported and self.exported.artifact['output'] == 'labels' and self.confident:
            raise UserError('this exported file gives labels without their probabilities, which --min-confidence and '
                            '--save-confidence need; give one that was exported with --logits, or the trained model')
        self.abstains = min_confidence is not None or bool(self.exported and self.exported.artifact.get('abstention'))
        self.load, *others = Compose(image_pipeline(pipeline)).transforms
        if tiling and (resizing := [type(step).__name__ for step in others if 'Resize' in type(step).__name__]):
            raise UserError(f'the test pipeline has {resizing[0]}, which would enlarge each tile; leave --tile out, or remove '
                            'that step')
        self.pipeline = Compose(others)
        self.seconds = 0.0

    @classmethod
    def of(cls, config: Config, checkpoint: str, device: str | None = None, **settings: Any) -> 'Segmenter':
        """Build the model of a config.

        Args:
            config: full config.
            checkpoint: training checkpoint, folder of a fused model, or exported file.
            device: device, see :func:`repvgg_seg.runtime.predictor.load`; by default the CPU for an exported file, and
                otherwise a GPU if there is one.
            settings: arguments of the class from ``tiling`` on.

        Raises:
            UserError: the weights or classes do not fit, or see the class.
        """
        classes = dataset_metainfo(config)['classes']
        if is_exported(checkpoint):
            init_default_scope(config.get('default_scope', 'mmseg'))
            model = MODELS.build(exported_config(config, checkpoint, device or CPU))
            check_classes_of_export(model, classes)
            channels = model.predictor.in_channels
        else:
            model, meta = build_trained(config, checkpoint)
            check_same_classes(f'checkpoint {checkpoint}', trained_classes(meta), 'the test set', classes)
            with torch_device(device):
                model = model.to(get_device())
            channels = channels_of(config.model)
        return cls(model, test_pipeline(config), channels, len(classes), **settings)

    def read(self, frame: Frame) -> Picture:
        """Read a frame and apply the test pipeline to it, or, if it is split into tiles, prepare that.

        Raises:
            DataError: the file is damaged, or has other channels than the model takes.
            UserError: the pipeline makes several images of one, or the image is too large.
        """
        data = self.load_frame(frame)
        image = data['img']
        height, width = image.shape[:2]
        if self.tiling:
            return Picture(frame, viewable(image), (
                (rows, columns, self.prepared(frame, cut(data, rows, columns)))
                for rows, columns in self.tiling.tiles(height, width)))
        if 4 * height * width * self.classes > MAX_LOGITS and not self.splits():
            raise UserError(f'{frame} has {height}x{width} pixels, for which the logits alone need '
                            f'{4 * height * width * self.classes / 2**30:.0f} GiB; split it into tiles, e.g. --tile 1024 1024')
        shown = viewable(image)  # Before it is resized, padded or normalized; labels have the size that it has here.
        return Picture(frame, shown, [(Window(0, height, 0, height), Window(0, width, 0, width), self.prepared(frame, data))])

    def splits(self) -> bool:
        """Whether the model itself splits images into windows and returns labels, in bounded memory."""
        return isinstance(self.model, ExportedSegmentor) and bool(self.model.window or self.model.predictor.size)

    def load_frame(self, frame: Frame) -> dict:
        """Read a frame as the first step of the test pipeline does.

        Raises:
            UserError: the step reads something else than the frames of a video.
        """
        if isinstance(frame.image, Path):
            return self.load(dict(img_path=str(frame.image), seg_fields=[], label_map=None, reduce_zero_label=False))
        color_type = self.load.color_type if isinstance(self.load, LoadImageFromFile) else None
        channels = 1 if color_type == 'grayscale' else 3
        if color_type is None or channels != self.channels:
            raise UserError(f'videos have frames of 3 channels with 8 bits, but the model takes {self.channels} that '
                            f'{type(self.load).__name__} reads; give image files')
        image = cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY) if channels == 1 else frame.image
        if self.load.to_float32:
            image = image.astype(np.float32)
        return dict(img=image, img_path=frame.name, img_shape=image.shape[:2], ori_shape=image.shape[:2], seg_fields=[],
                    label_map=None, reduce_zero_label=False)

    def prepared(self, frame: Frame, data: dict) -> dict:
        """Apply the steps of the test pipeline that follow loading.

        Raises:
            DataError, UserError: see :meth:`read`.
        """
        data = self.pipeline(data)
        if not isinstance(data['inputs'], Tensor):
            raise UserError('the test pipeline makes several images of one (TestTimeAug); move that step to tta_pipeline')
        if len(data['inputs']) != self.channels:
            raise DataError(f'{frame} has {len(data["inputs"])} channel(s) after the pipeline, the model takes '
                            f'{self.channels}; give another image, or set color_type of LoadImageFromFile (color, grayscale or '
                            'unchanged)', 'other channels')
        return data

    @torch.no_grad()
    def segment(self, picture: Picture) -> Prediction:
        """Segment a picture."""
        height, width = picture.image.shape[:2]
        labels = np.empty((height, width), np.uint8)
        confidence = np.empty((height, width) if self.confident else (0, 0), np.float32)
        for rows, columns, data in picture.parts:
            start = time.perf_counter()
            sample = self.model.test_step(pseudo_collate([data]))[0]
            found = sample.pred_sem_seg.data.squeeze(0).cpu().numpy()
            certain = confidence_of(sample.seg_logits.data, sample.pred_sem_seg.data) if self.confident else found
            self.seconds += time.perf_counter() - start
            used = slice(rows.first, rows.end), slice(columns.first, columns.end)
            inside = (slice(rows.first - rows.start, rows.end - rows.start),
                      slice(columns.first - columns.start, columns.end - columns.start))
            labels[used] = found[inside]
            if self.confident:
                confidence[used] = certain[inside]
        if self.min_confidence is not None:
            labels[confidence < self.min_confidence] = IGNORE
        return Prediction(picture.frame, picture.image, labels, confidence)


def cut(data: dict, rows: Window, columns: Window) -> dict:
    """Cut a tile out of a loaded image."""
    image = np.ascontiguousarray(data['img'][rows.start:rows.stop, columns.start:columns.stop])
    return {**data, 'img': image, 'img_shape': image.shape[:2], 'ori_shape': image.shape[:2], 'seg_fields': []}


def confidence_of(logits: Tensor, labels: Tensor) -> np.ndarray:
    """Compute the probability of the predicted class of each pixel.

    Args:
        logits: ``seg_logits`` of MMSegmentation: logits (C, H, W); with a single channel, the probability of class 1 of two.
        labels: predicted classes (1, H, W).

    Returns:
        float32 (H, W), 0 to 1.
    """
    if len(logits) == 1:
        return torch.where(labels == 1, logits, 1 - logits)[0].float().cpu().numpy()
    return logits.float().softmax(0).amax(0).cpu().numpy()
