"""Evaluate batches whose images differ in size."""
from collections.abc import Iterator, Mapping
from itertools import groupby

from mmengine.config import Config
from mmengine.runner import TestLoop as _MMEngineTestLoop
from mmengine.runner import ValLoop as _MMEngineValLoop
from torch import Tensor

from ..core.config_types import type_name
from ..registry import LOOPS


def by_size(batch: Mapping) -> Iterator[Mapping]:
    """Split a batch wherever the image size changes, so that each part can be processed as a batch. The order is preserved.

    MMSegmentation does not accept batches of several sizes, and padding the images would change what a pyramid pools.

    Args:
        batch: batch of a test set's data loader: lists with one item per image or, with test-time augmentation, lists of such
            lists, one per augmentation.
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
    """Replace MMEngine's loops in a config by those of this module."""
    for key, name in (('val_cfg', 'ValLoop'), ('test_cfg', 'TestLoop')):
        settings = config.get(key)
        if settings is not None and type_name(settings) in ('', name):
            settings['type'] = f'repvgg_seg.{name}'


@LOOPS.register_module()
class ValLoop(_MMEngineValLoop):
    """MMEngine's validation loop, which also accepts batches whose images differ in size."""

    def run_iter(self, idx: int, data_batch: Mapping) -> None:
        """Evaluate a batch in parts of equal image size, see :func:`by_size`."""
        for part in by_size(data_batch):
            super().run_iter(idx, part)


@LOOPS.register_module()
class TestLoop(_MMEngineTestLoop):
    """MMEngine's test loop, which also accepts batches whose images differ in size."""

    def run_iter(self, idx: int, data_batch: Mapping) -> None:
        """Evaluate a batch in parts of equal image size, see :func:`by_size`."""
        for part in by_size(data_batch):
            super().run_iter(idx, part)
