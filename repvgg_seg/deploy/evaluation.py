"""mIoU of a segmentor and of its exported forms, while they are being deployed."""
import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from rich.progress import track
from torch.utils.data import DataLoader

from ..engine.batches import by_size
from ..engine.dataset_configs import datasets_in, test_pipeline
from ..engine.exported import ExportedSegmentor, normalize_no_more, window_of
from ..engine.pipelines import without_normalize
from ..errors import UserError
from .runtime import Predictor
from .sample_images import is_here


def has_labels(config: Config) -> bool:
    """Whether images and labels of the config's test set are on this machine."""
    return all((dataset.get('data_prefix') or {}).get('seg_map_path') is not None
               and is_here(dataset) and is_here(dataset, 'seg_map_path')
               for dataset in datasets_in(config.test_dataloader.dataset))


class Evaluation:
    """The config's labelled test set and its metric.

    Args:
        config: the whole config.
    """

    def __init__(self, config: Config) -> None:
        init_default_scope(config.get('default_scope', 'mmseg'))
        self.windows = window_of(config)
        self.loader = self.raw_loader = loader_of(config)
        if without_normalize(test_pipeline(config))[1]:
            config = copy.deepcopy(config)
            normalize_no_more(config)
            self.raw_loader = loader_of(config)
        self.evaluator = Evaluator(copy.deepcopy(config.test_evaluator))
        self.evaluator.dataset_meta = self.loader.dataset.metainfo
        self.images = len(self.loader.dataset)

    def size(self) -> tuple[int, int]:
        """Height and width of what a segmentor gets: a window, or the first image."""
        return tuple(self.windows[0] or self.loader.dataset[0]['inputs'].shape[1:])

    def of_predictor(self, predictor: Predictor, name: str) -> float:
        """mIoU in per cent of what was exported; images are cut as the config's segmentor does."""
        return self._evaluate(ExportedSegmentor(predictor, *self.windows), self.raw_loader, name)

    def of_model(self, model: BaseModel, name: str) -> float:
        """mIoU in per cent of a segmentor.

        Raises:
            UserError: the config's metric gives none.
        """
        return self._evaluate(model, self.loader, name)

    @torch.no_grad()
    def _evaluate(self, model: BaseModel, loader: DataLoader, name: str) -> float:
        for data in track(loader, description=f'Evaluating {name}'):
            for part in by_size(data):
                self.evaluator.process(data_samples=model.test_step(part), data_batch=part)
        with silent():
            metrics = self.evaluator.evaluate(self.images)
        found = [value for key, value in metrics.items() if key.rpartition('/')[2] == 'mIoU']
        if not found:
            raise UserError(f'test_evaluator of the config gives {", ".join(metrics)}; expected mIoU among them')
        return float(found[0])


def loader_of(config: Config) -> DataLoader:
    """A loader of the config's test set."""
    # In this process: with workers that were forked before OpenVINO was loaded, Python crashes when it ends.
    return Runner.build_dataloader(dict(copy.deepcopy(config.test_dataloader), num_workers=0, persistent_workers=False))


@contextmanager
def silent() -> Iterator[None]:
    """Keep MMEngine's loggers, to which metrics write tables, below warnings silent."""
    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
