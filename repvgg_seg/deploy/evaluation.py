"""Evaluate a model and its exported files during deployment."""
import copy
import logging
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from rich.progress import track
from torch.utils.data import DataLoader

from ..core.errors import UserError
from ..core.noise import keep_from_console
from ..engine.batches import by_size
from ..engine.dataset_configs import test_pipeline
from ..engine.exported import normalize_no_more, window_of
from ..engine.pipelines import without_normalize
from ..runtime.backend import Run
from ..runtime.predictor import Predictor
from .abstention import check_number, count_pixels
from .plan import DeployPlan
from .tasks import Task

INDEX = np.int16  # Dtype of class indices in memory.


class Score(NamedTuple):
    """How an exported file does on the test set.

    Args:
        metric: the task's metric in percent.
        changed: share of the pixels (or images) whose class is not that of the trained model; NaN if that was not evaluated.
    """
    metric: float
    changed: float


class Evaluation:
    """The config's labeled test set and the metric of its task.

    Args:
        config: full config, from which :func:`repvgg_seg.engine.trained_model.build_trained` built the model.
        task: task of the model.

    Attributes:
        images: number of images.
        reference: metric of the trained model in percent, set by :meth:`before_and_after`.
        answers: class indices by the trained model, compressed, of each image; set by :meth:`before_and_after`.
    """

    def __init__(self, config: Config, task: Task) -> None:
        init_default_scope(config.get('default_scope', 'mmseg'))
        self.config, self.task = copy.deepcopy(config), task
        task.fit_evaluator(self.config)
        self.loader = self.raw_loader = loader_of(self.config)
        if without_normalize(test_pipeline(config))[1]:
            normalize_no_more(self.config)
            self.raw_loader = loader_of(self.config)
        keep_from_console(MMLogger.get_current_instance())
        self.evaluator = Evaluator(copy.deepcopy(self.config.test_evaluator))
        self.evaluator.dataset_meta = self.loader.dataset.metainfo
        self.images = len(self.loader.dataset)
        self.reference = math.nan
        self.answers: list[bytes] = []

    def size(self) -> tuple[int, int]:
        """Height and width of a model's input: those of the sliding window, or of the first image."""
        height, width = window_of(self.config)[0] or self.loader.dataset[0]['inputs'].shape[1:]
        return height, width

    def before_and_after(self, trained: BaseModel, fused: BaseModel) -> tuple[float, float]:
        """Evaluate the trained and the fused model, in percent; the first value is the reference for exported files.

        Raises:
            UserError: the config's evaluator does not compute the metric.
        """
        self.reference, self.answers = self._evaluate(trained, self.loader, 'the trained model')
        return self.reference, self.of_model(fused, 'the fused model')

    def of_predictor(self, predictor: Predictor, name: str) -> Score:
        """Evaluate an exported file; images are split into windows as the config's model does."""
        value, answers = self._evaluate(self.task.exported_model(predictor, self.config), self.raw_loader, name)
        return Score(value, share_of_changes(self.answers, answers))

    def counts(self, predictor: Predictor, name: str) -> Iterator[tuple[str, np.ndarray]]:
        """Count pixels by class and confidence in each image of the test set, split into windows as the config does.

        Args:
            predictor: predictor of a segmentor that returns logits.
            name: name of the file, for the progress bar.

        Yields:
            Path of an image, empty if the pipeline drops it, and its counts, see
            :func:`repvgg_seg.deploy.abstention.count_pixels`.

        Raises:
            UserError: the file returns a single logit per pixel.
        """
        rating, classes = copy.copy(predictor), len(predictor.classes)
        rating.run = partial(rated, predictor.run)
        model = self.task.exported_model(rating, self.config)
        for data in track(self.raw_loader, description=f'Rating {name}'):
            for image, sample in zip(data['inputs'], data['data_samples']):
                found = torch.from_numpy(rating(model.pixels_of(image), model.window, model.overlap))[None]
                if found.shape[2:] != torch.Size(sample.ori_shape):
                    found = F.interpolate(found, size=sample.ori_shape, mode='nearest-exact')
                predicted, confidence = found[0].numpy()
                counts = count_pixels(predicted, confidence, sample.gt_sem_seg.data[0].numpy(), classes)
                yield sample.get('img_path', ''), counts

    def of_model(self, model: BaseModel, name: str) -> float:
        """Evaluate a model, in percent.

        Raises:
            UserError: the config's evaluator does not compute the metric.
        """
        return self._evaluate(model, self.loader, name)[0]

    @torch.no_grad()
    def _evaluate(self, model: BaseModel, loader: DataLoader, name: str) -> tuple[float, list[bytes]]:
        """Evaluate a model: the metric in percent, and its answers as in ``answers``."""
        answers = []
        for data in track(loader, description=f'Evaluating {name}'):
            for part in by_size(data):
                samples = model.test_step(part)
                answers += [zlib.compress(self.task.answer(sample).cpu().numpy().astype(INDEX).tobytes(), 1)
                            for sample in samples]
                self.evaluator.process(data_samples=samples, data_batch=part)
        with silent():
            metrics = self.evaluator.evaluate(self.images)
        metric = self.task.metric.name
        found = [value for key, value in metrics.items() if key.rpartition('/')[2] == metric]
        if not found:
            raise UserError(f'test_evaluator of the config gives {", ".join(metrics)}; expected {metric} among them')
        return float(found[0]), answers


def share_of_changes(before: Sequence[bytes], after: Sequence[bytes]) -> float:
    """Share of the pixels (or images) whose class differs between two evaluations; NaN if there was only one.

    Args:
        before, after: ``answers`` of :class:`Evaluation`.
    """
    if not before:
        return math.nan
    changed = total = 0
    for pair in zip(before, after, strict=True):
        one, other = (np.frombuffer(zlib.decompress(answer), INDEX) for answer in pair)
        changed, total = changed + int(np.count_nonzero(one != other)), total + one.size
    return changed / total


def evaluation_for(config: Config, plan: DeployPlan) -> Evaluation | None:
    """Create the evaluation if it is requested, or if int8 is requested and labels are available; otherwise return None.

    Raises:
        UserError: evaluation is requested, but exported files take images of a different size than the test does.
    """
    request = plan.request
    evaluate = request.evaluate or request.abstain is not None
    if request.abstain is not None and not plan.task.has_labels(config):
        raise UserError('--abstain chooses thresholds on the labeled images of test_dataloader, which are not on this machine; '
                        'set its data_root, or leave --abstain out')
    if not (evaluate or ('int8' in request.precisions and plan.task.has_labels(config))):
        return None
    evaluation = Evaluation(config, plan.task)
    if request.abstain is not None:
        check_number(evaluation.images, request.abstain, request.confidence)
    if request.size in (None, size := evaluation.size()):
        return evaluation
    if evaluate:
        raise UserError(f'--eval compares with the trained model, which gets {size[0]}x{size[1]} pixels of the test set; use '
                        f'--size {size[0]} {size[1]}, or leave it out')
    return None  # The same network has a different metric if images are split into other windows.


def loader_of(config: Config) -> Any:
    """Build a data loader for the config's test set."""
    # Load in this process: if workers are forked before OpenVINO is loaded, Python crashes on exit.
    return Runner.build_dataloader(dict(copy.deepcopy(config.test_dataloader), num_workers=0, persistent_workers=False))


def rated(run: Run, images: np.ndarray) -> np.ndarray:
    """Run a file that returns logits, and return class and confidence of each pixel: float32 (N, 2, H, W).

    Raises:
        UserError: there is a single logit per pixel.
    """
    logits = torch.from_numpy(run(images))
    if logits.shape[1] == 1:
        raise UserError('thresholds need the probabilities of all classes, but the head has out_channels=1; train it with '
                        'out_channels=2')
    return torch.stack([logits.argmax(1).float(), logits.softmax(1).amax(1)], dim=1).numpy()


@contextmanager
def silent() -> Iterator[None]:
    """Silence messages below warnings in MMEngine's logger, to which metrics write their tables."""
    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
