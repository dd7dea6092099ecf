"""Task-specific parts of deployment: what differs between segmentors and classifiers."""
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor

from ..core.errors import UserError
from ..core.tasks import CLASSIFICATION, SEGMENTATION
from ..engine.classes import trained_classes
from ..engine.dataset_configs import dataset_metainfo, datasets_in, named_classes
from ..engine.exported import ExportedClassifier, ExportedModel, ExportedSegmentor, window_of
from ..runtime.predictor import Predictor
from .comparison import Decision, threshold_of
from .graph import ClassifierGraph, Graph, SegmentorGraph, check_dynamic, min_size, stride_of
from .sample_images import is_here


class Metric(NamedTuple):
    """The metric that ``--eval`` computes.

    Args:
        key: key of the metric in ``deploy.json``, with the suffixes ``_before`` and ``_after`` for models in PyTorch.
        name: last part of the metric's name in the evaluator's results.
        title: name of the metric in reports.
    """
    key: str
    name: str
    title: str


class Task(ABC):
    """Task-specific behavior of deployment.

    Attributes:
        name: name of the task, see :func:`repvgg_seg.core.tasks.task_of`.
        unit: unit of classification for messages: pixels or images.
        metric: metric that models are evaluated by.
        graph: class of the exported graph.
        model_type: name of the only model class that can be exported.
    """
    name: str
    unit: str
    metric: Metric
    graph: type[Graph]
    model_type: str

    @abstractmethod
    def metainfo(self, config: Config) -> tuple[Sequence[str], list[list[int]]]:
        """Names and RGB colors of the classes in the test set; empty if the config does not specify them."""

    @abstractmethod
    def classes(self, named: Sequence[str], meta: Mapping, model: Any) -> Sequence[str]:
        """Names of the classes that a model distinguishes.

        Args:
            named: class names in the config.
            meta: ``meta`` of the model's checkpoint.
            model: trained model.
        """

    @abstractmethod
    def decision(self, model: BaseModel) -> Decision:
        """Return the rule that converts the logits of a model to class indices."""

    @abstractmethod
    def min_size(self, model: Any, channels: int, any_size: bool) -> int:
        """Smallest height and width, in pixels, of the images that an exported model takes.

        Args:
            model: model on the CPU.
            channels: number of channels of the images.
            any_size: whether the model is exported for images of any size.
        """

    @abstractmethod
    def check_any_size(self, model: Any, channels: int, pictures: Sequence[np.ndarray]) -> None:
        """Check that a model can be exported for images of any size.

        Args:
            model: model on the CPU.
            channels: number of channels of the images.
            pictures: sample images, (H, W, channels).

        Raises:
            UserError: the model cannot be exported for any size, or a sample image is too small for it.
        """

    @abstractmethod
    def has_labels(self, config: Config) -> bool:
        """Whether the images and labels of the config's test set are on this machine."""

    @abstractmethod
    def fit_evaluator(self, config: Config) -> None:
        """Adapt the evaluator of a config to the number of classes."""

    @abstractmethod
    def exported_model(self, predictor: Predictor, config: Config) -> ExportedModel:
        """Wrap an exported file so that it can be evaluated in place of the config's model."""

    @abstractmethod
    def answer(self, sample: Any) -> Tensor:
        """Class indices of the pixels, or of the image, that a model wrote into a data sample."""


def check_exportable(task: Task, model: BaseModel) -> None:
    """Check that the graph of a task can represent a model.

    Raises:
        UserError: the model is not of the type that the task exports.
    """
    if type(model).__name__ != task.model_type:
        article = 'an' if task.model_type[0] in 'EI' else 'a'
        raise UserError(f'only {article} {task.model_type} can be exported, got {type(model).__name__}; --formats pth can be '
                        'written')


class Segmentation(Task):
    """Semantic segmentation, which assigns a class to every pixel; see :class:`Task`."""
    name, unit, metric = SEGMENTATION, 'pixels', Metric('miou', 'mIoU', 'mIoU')
    graph, model_type = SegmentorGraph, 'EncoderDecoder'

    def metainfo(self, config: Config) -> tuple[Sequence[str], list[list[int]]]:
        """See :class:`Task`."""
        found = dataset_metainfo(config)
        return found['classes'], found['palette']

    def classes(self, named: Sequence[str], meta: Mapping, model: Any) -> Sequence[str]:
        """See :class:`Task`."""
        return named

    def decision(self, model: BaseModel) -> Decision:
        """See :class:`Task`."""
        return Decision(threshold_of(model), 'uint8')

    def min_size(self, model: Any, channels: int, any_size: bool) -> int:
        """See :class:`Task`."""
        return min_size(model, channels)

    def check_any_size(self, model: Any, channels: int, pictures: Sequence[np.ndarray]) -> None:
        """See :class:`Task`."""
        check_dynamic(model, channels)

    def has_labels(self, config: Config) -> bool:
        """See :class:`Task`."""
        return all((dataset.get('data_prefix') or {}).get('seg_map_path') is not None
                   and is_here(dataset) and is_here(dataset, 'seg_map_path')
                   for dataset in datasets_in(config.test_dataloader.dataset))

    def fit_evaluator(self, config: Config) -> None:
        """See :class:`Task`; nothing to do, because segmentation metrics read the classes from the test set."""

    def exported_model(self, predictor: Predictor, config: Config) -> ExportedModel:
        """See :class:`Task`; the wrapper splits images into windows as the config's segmentor does."""
        return ExportedSegmentor(predictor, *window_of(config))

    def answer(self, sample: Any) -> Tensor:
        """See :class:`Task`."""
        return sample.pred_sem_seg.data


class Classification(Task):
    """Image classification, which assigns a class to every image; see :class:`Task`."""
    name, unit, metric = CLASSIFICATION, 'images', Metric('accuracy', 'top1', 'top-1')
    graph, model_type = ClassifierGraph, 'ImageClassifier'

    def metainfo(self, config: Config) -> tuple[Sequence[str], list[list[int]]]:
        """See :class:`Task`; image classes have no colors."""
        return named_classes(config), []

    def classes(self, named: Sequence[str], meta: Mapping, model: Any) -> Sequence[str]:
        """See :class:`Task`; classes without names are named by their index."""
        return named or trained_classes(meta) or [str(index) for index in range(model.head.num_classes)]

    def decision(self, model: BaseModel) -> Decision:
        """See :class:`Task`."""
        return Decision(None, 'int64')

    def min_size(self, model: Any, channels: int, any_size: bool) -> int:
        """See :class:`Task`; if the size is open, the last map needs sides above 1, which ``torch.export`` treats specially."""
        return stride_of(model, channels) + 1 if any_size else 1

    def check_any_size(self, model: Any, channels: int, pictures: Sequence[np.ndarray]) -> None:
        """See :class:`Task`; only sizes are checked here, and a head that cannot be exported is detected later."""
        smallest = self.min_size(model, channels, any_size=True)
        for height, width in (picture.shape[:2] for picture in pictures):
            if min(height, width) < smallest:
                raise UserError(f'images of {height}x{width} pixels are too small for a classifier of any size, which takes '
                                f'{smallest}x{smallest} or more; give --size {height} {width}')

    def has_labels(self, config: Config) -> bool:
        """See :class:`Task`; labels are the folders of the images or lists next to them, so only the images are checked."""
        return all(map(is_here, datasets_in(config.test_dataloader.dataset)))

    def fit_evaluator(self, config: Config) -> None:
        """See :class:`Task`."""
        from ..engine.classification import spread_num_classes
        spread_num_classes(config, config.model.head.num_classes)

    def exported_model(self, predictor: Predictor, config: Config) -> ExportedModel:
        """See :class:`Task`."""
        return ExportedClassifier(predictor)

    def answer(self, sample: Any) -> Tensor:
        """See :class:`Task`."""
        return sample.pred_label


TASKS: dict[str, Task] = {SEGMENTATION: Segmentation(), CLASSIFICATION: Classification()}
