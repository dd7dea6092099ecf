"""Data that depend only on seed, epoch and image index, so that a run can be resumed anywhere without differences."""
import inspect
import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset, DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader, Dataset, Sampler

REPLACED = ('dataset', 'sampler', 'batch_sampler', 'shuffle', 'generator')  # Arguments replaced in a repeatable loader.


class RepeatableDataset(Dataset):
    """A dataset whose random augmentation depends only on the key of the sample, not on the worker or on earlier samples.

    MMEngine seeds each worker process only once. The augmentation of an image then depends on the numbers of workers and
    processes, and after resuming, on when the run was stopped.

    Args:
        dataset: MMEngine dataset, whose attributes are also available here.
        seed: random seed of the run.
    """

    def __init__(self, dataset: BaseDataset, seed: int) -> None:
        self._dataset, self._seed = dataset, seed

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or '_dataset' not in self.__dict__:  # During unpickling in a worker.
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: int) -> Any:
        """Return the sample with the key ``epoch * len(dataset) + index``."""
        with seeded(self._seed, key):
            return self._dataset[key % len(self)]


def unwrapped(dataset: Any) -> Any:
    """Return the dataset without the wrapper of this module."""
    return dataset._dataset if isinstance(dataset, RepeatableDataset) else dataset


class RepeatableSampler(Sampler):
    """Keys of a :class:`RepeatableDataset` in the order of another sampler, starting anywhere in this order.

    Args:
        sampler: MMEngine sampler, either finite with ``set_epoch`` or infinite.
        length: length of the dataset.
    """

    def __init__(self, sampler: DefaultSampler | InfiniteSampler, length: int) -> None:
        self.sampler, self.length = sampler, length
        self.epoch, self.skipped = 0, 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        skipped, self.skipped = self.skipped, 0
        for position, index in islice(enumerate(self.sampler), skipped, None):
            # An infinite sampler has no epochs; it starts a new pass after this number of samples.
            yield (self.epoch + position // self.length) * self.length + index

    def set_epoch(self, epoch: int) -> None:
        """Use the order of an epoch."""
        self.epoch = epoch
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def skip(self, samples: int) -> None:
        """Skip the first samples of this process in the next pass."""
        self.skipped = samples


def make_repeatable(loader: DataLoader, seed: int) -> DataLoader:
    """Return the loader over a :class:`RepeatableDataset`, or unchanged if its batches do not come from a single sampler."""
    if loader.batch_size is None:
        return loader
    dataset: BaseDataset = loader.dataset
    sampler = RepeatableSampler(loader.sampler, len(dataset))
    others = {name: getattr(loader, name) for name in inspect.signature(DataLoader).parameters if name not in REPLACED}
    return DataLoader(RepeatableDataset(dataset, seed), sampler=sampler,
                      generator=torch.Generator(),  # Otherwise each pass would use the global generator.
                      **others)


@contextmanager
def seeded(*seeds: int) -> Iterator[None]:
    """Temporarily seed the global generators of Python, NumPy and PyTorch's CPU, then restore their states."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence(seeds).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1:3])
    torch.default_generator.manual_seed(int(words[3]))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
