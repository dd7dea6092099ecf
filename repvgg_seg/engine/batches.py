"""Evaluation of batches whose images differ in size."""
from collections.abc import Iterator, Mapping
from itertools import groupby

from mmengine.config import Config
from mmengine.runner import TestLoop as _MMEngineTestLoop
from mmengine.runner import ValLoop as _MMEngineValLoop
from torch import Tensor

from ..core.config_types import type_name
from ..registry import LOOPS


def by_size(batch: Mapping) -> Iterator[Mapping]:
    """Split a batch where the size of its images changes, so that each part can be computed at once; the order stays.

    MMSegmentation refuses batches of several sizes, and to pad images changes what a pyramid pools.

    Args:
        batch: from the loader of a test set: lists with one item for each image; with test-time augmentation lists of such, one
            for each form of the images.
    """
    inputs = batch['inputs']
    if isinstance(inputs, Tensor):
        yield batch
        return
    augmented = not isinstance(inputs[0], Tensor)
    images = inputs[0] if augmented else inputs
    for _, group in groupby(range(len(images)), key=lambda index: images[index].shape):
        indices = list(group)
        yield {key: [[form[index] for index in indices] for form in values] if augmented else
               [values[index] for index in indices] for key, values in batch.items()}


def evaluate_by_size(config: Config) -> None:
    """Put the loops of this module into a config, in the place of MMEngine's."""
    for key, name in (('val_cfg', 'ValLoop'), ('test_cfg', 'TestLoop')):
        settings = config.get(key)
        if settings is not None and type_name(settings) in ('', name):
            settings['type'] = f'repvgg_seg.{name}'


@LOOPS.register_module()
class ValLoop(_MMEngineValLoop):
    """MMEngine's, for batches whose images differ in size too."""

    def run_iter(self, idx: int, data_batch: Mapping) -> None:
        """Evaluate a batch, in as many parts as it has sizes."""
        for part in by_size(data_batch):
            super().run_iter(idx, part)


@LOOPS.register_module()
class TestLoop(_MMEngineTestLoop):
    """MMEngine's, for batches whose images differ in size too."""

    def run_iter(self, idx: int, data_batch: Mapping) -> None:
        """Evaluate a batch, in as many parts as it has sizes."""
        for part in by_size(data_batch):
            super().run_iter(idx, part)
