"""What differs between deploying a segmentor and a classifier."""
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config
from mmengine.model import BaseModel

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
    """What ``--eval`` computes.

    Args:
        key: the metric's key in ``deploy.json``, with ``_before`` and ``_after`` for models in PyTorch.
        name: the last part of its name among the evaluator's metrics.
        title: what it is called in reports.
    """
    key: str
    name: str
    title: str


class Task(ABC):
    """What deploying must know of a task.

    Attributes:
        name: see :func:`repvgg_seg.core.tasks.task_of`.
        unit: what is classified, for messages: pixels or images.
        metric: what a model is evaluated by.
        graph: the class of the graph that is exported.
        model_type: the only class of models that can be exported.
    """
    name: str
    unit: str
    metric: Metric
    graph: type[Graph]
    model_type: str

    @abstractmethod
    def metainfo(self, config: Config) -> tuple[Sequence[str], list[list[int]]]:
        """Names and RGB colors of the classes in the test set; empty if the config does not say them."""

    @abstractmethod
    def classes(self, named: Sequence[str], meta: Mapping, model: Any) -> Sequence[str]:
        """The names of the classes that a model distinguishes.

        Args:
            named: names in the config.
            meta: ``meta`` of the model's checkpoint.
            model: the model.
        """

    @abstractmethod
    def decision(self, model: BaseModel) -> Decision:
        """How class indices follow from the logits of a model."""

    @abstractmethod
    def min_size(self, model: Any, channels: int, any_size: bool) -> int:
        """The smallest height and width, in pixels, of images that an exported model takes.

        Args:
            model: a model on the CPU.
            channels: number of channels of the images.
            any_size: whether it is exported for images of any size.
        """

    @abstractmethod
    def check_any_size(self, model: Any, channels: int, pictures: Sequence[np.ndarray]) -> None:
        """Check that a model on the CPU can be exported for images of any size.

        Args:
            model: a model on the CPU.
            channels: number of channels of the images.
            pictures: some of the images, (H, W, channels).

        Raises:
            UserError: it cannot, or not for these images.
        """

    @abstractmethod
    def has_labels(self, config: Config) -> bool:
        """Whether images and labels of the config's test set are on this machine."""

    @abstractmethod
    def fit_evaluator(self, config: Config) -> None:
        """Adapt the evaluator of a config to the number of its classes."""

    @abstractmethod
    def exported_model(self, predictor: Predictor, config: Config) -> ExportedModel:
        """An exported file in the place of the config's model, which evaluates it."""


def check_exportable(task: Task, model: BaseModel) -> None:
    """Check that the graph of a task computes what a model does.

    Raises:
        UserError: it does not, the model is of another type.
    """
    if type(model).__name__ != task.model_type:
        article = 'an' if task.model_type[0] in 'EI' else 'a'
        raise UserError(f'only {article} {task.model_type} can be exported, got {type(model).__name__}; --formats pth can be '
                        'written')


class Segmentation(Task):
    """Every pixel of an image has a class; see :class:`Task`."""
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
        """See :class:`Task`; metrics of segmentation read the classes of the test set."""

    def exported_model(self, predictor: Predictor, config: Config) -> ExportedModel:
        """See :class:`Task`; it cuts images as the config's segmentor does."""
        return ExportedSegmentor(predictor, *window_of(config))


class Classification(Task):
    """Every image has a class; see :class:`Task`."""
    name, unit, metric = CLASSIFICATION, 'images', Metric('accuracy', 'top1', 'top-1')
    graph, model_type = ClassifierGraph, 'ImageClassifier'

    def metainfo(self, config: Config) -> tuple[Sequence[str], list[list[int]]]:
        """See :class:`Task`; classes of images have no colors."""
        return named_classes(config), []

    def classes(self, named: Sequence[str], meta: Mapping, model: Any) -> Sequence[str]:
        """See :class:`Task`; classes without a name are called by their index."""
        return named or trained_classes(meta) or [str(index) for index in range(model.head.num_classes)]

    def decision(self, model: BaseModel) -> Decision:
        """See :class:`Task`."""
        return Decision(None, 'int64')

    def min_size(self, model: Any, channels: int, any_size: bool) -> int:
        """See :class:`Task`; if the size is open, ``torch.export`` takes a side of 1 in the last map for another case."""
        return stride_of(model, channels) + 1 if any_size else 1

    def check_any_size(self, model: Any, channels: int, pictures: Sequence[np.ndarray]) -> None:
        """See :class:`Task`; a head that cannot be exported is found later."""
        smallest = self.min_size(model, channels, any_size=True)
        for height, width in (picture.shape[:2] for picture in pictures):
            if min(height, width) < smallest:
                raise UserError(f'images of {height}x{width} pixels are too small for a classifier of any size, which takes '
                                f'{smallest}x{smallest} or more; give --size {height} {width}')

    def has_labels(self, config: Config) -> bool:
        """See :class:`Task`; labels are folders or lists beside the images."""
        return all(map(is_here, datasets_in(config.test_dataloader.dataset)))

    def fit_evaluator(self, config: Config) -> None:
        """See :class:`Task`."""
        from ..engine.classification import spread_num_classes
        spread_num_classes(config, config.model.head.num_classes)

    def exported_model(self, predictor: Predictor, config: Config) -> ExportedModel:
        """See :class:`Task`."""
        return ExportedClassifier(predictor)


TASKS: dict[str, Task] = {SEGMENTATION: Segmentation(), CLASSIFICATION: Classification()}
