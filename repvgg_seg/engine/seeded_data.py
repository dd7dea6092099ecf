"""Data that depend on seed, epoch and index of the image alone, so that a run can go on anywhere as if it had not stopped."""
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

REPLACED = ('dataset', 'sampler', 'batch_sampler', 'shuffle', 'generator')  # Arguments of a loader that is made repeatable.


class RepeatableDataset(Dataset):
    """A dataset whose random augmentation depends on the key of the sample, not on what was loaded before it or where.

    MMEngine seeds each worker process once, so that the augmentation of an image depends on the number of workers and of
    processes, and after resuming on when the run was stopped.

    Args:
        dataset: a dataset of MMEngine's; its attributes are found here too.
        seed: of the run.
    """

    def __init__(self, dataset: BaseDataset, seed: int) -> None:
        self._dataset, self._seed = dataset, seed

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or '_dataset' not in self.__dict__:  # While it is unpickled in a worker.
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: int) -> Any:
        """A sample, by ``epoch * len(dataset) + index``."""
        with seeded(self._seed, key):
            return self._dataset[key % len(self)]


def unwrapped(dataset: Any) -> Any:
    """The dataset of a config, without the wrapping of this module."""
    return dataset._dataset if isinstance(dataset, RepeatableDataset) else dataset


class RepeatableSampler(Sampler):
    """The keys of a :class:`RepeatableDataset`, in the order of another sampler, which can start anywhere in it.

    Args:
        sampler: of MMEngine's: finite with ``set_epoch``, or infinite.
        length: of the dataset.
    """

    def __init__(self, sampler: DefaultSampler | InfiniteSampler, length: int) -> None:
        self.sampler, self.length = sampler, length
        self.epoch, self.skipped = 0, 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        skipped, self.skipped = self.skipped, 0
        for position, index in islice(enumerate(self.sampler), skipped, None):
            # An infinite sampler has no epochs; it starts another turn after as many samples.
            yield (self.epoch + position // self.length) * self.length + index

    def set_epoch(self, epoch: int) -> None:
        """Take the order of an epoch."""
        self.epoch = epoch
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def skip(self, samples: int) -> None:
        """Leave out the first samples of this process in the next pass."""
        self.skipped = samples


def make_repeatable(loader: DataLoader, seed: int) -> DataLoader:
    """The same loader over a :class:`RepeatableDataset`; itself where its batches do not come from a single sampler."""
    if loader.batch_size is None:
        return loader
    dataset: BaseDataset = loader.dataset
    sampler = RepeatableSampler(loader.sampler, len(dataset))
    others = {name: getattr(loader, name) for name in inspect.signature(DataLoader).parameters if name not in REPLACED}
    return DataLoader(RepeatableDataset(dataset, seed), sampler=sampler,
                      generator=torch.Generator(),  # Else each pass would draw a seed for the workers from the global one.
                      **others)


@contextmanager
def seeded(*seeds: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and PyTorch's CPU for a while, then put them back."""
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
