"""What a loader gives depends on seed, epoch and image alone."""
import inspect

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader

from repvgg_seg.engine.random_state import random_state, restore_random_state
from repvgg_seg.engine.seeded_data import REPLACED, RepeatableSampler, make_repeatable, unwrapped

LENGTH = 10


class Draws:
    """Every sample is its index and a number from each generator."""
    name = 'draws'

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> list[float]:
        import random
        return [index, random.random(), np.random.rand(), torch.rand(()).item()]


def load(epoch: int, workers: int = 0, skipped: int = 0, persistent: bool = False, seed: int = 5) -> list:
    loader = DataLoader(Draws(), batch_size=2, sampler=DefaultSampler(Draws(), seed=seed), num_workers=workers, collate_fn=list,
                        persistent_workers=persistent)
    loader = make_repeatable(loader, seed)
    if persistent:
        list(loader)
    loader.sampler.set_epoch(epoch)
    loader.sampler.skip(skipped)
    return [sample for batch in loader for sample in batch]


@pytest.mark.parametrize('options', [
    dict(workers=1), dict(workers=3), dict(workers=2, persistent=True), dict(skipped=4), dict(workers=2, skipped=6)], ids=str)
def test_same_samples_however_they_are_loaded(options):
    expected = load(epoch=3)
    assert sorted(sample[0] for sample in expected) == [*range(LENGTH)]
    assert load(epoch=3, **options) == expected[options.get('skipped', 0):]


def test_epochs_seeds_and_images_differ():
    samples = [*load(0), *load(1), *load(0, seed=6)]
    for generator in (1, 2, 3):
        assert len({sample[generator] for sample in samples}) == 3 * LENGTH


def test_loading_leaves_the_generators_alone():
    before = random_state()
    drawn = Draws()[0]
    restore_random_state(before)
    load(0)
    assert Draws()[0] == drawn


def test_a_pass_is_skipped_into_only_once():
    loader = make_repeatable(DataLoader(Draws(), batch_size=2, collate_fn=list), 0)
    loader.sampler.skip(4)
    assert [len(list(loader)) for _ in range(2)] == [3, 5]


def test_infinite_sampler_goes_on_with_other_augmentation():
    sampler = RepeatableSampler(InfiniteSampler(Draws(), seed=0), LENGTH)
    keys = [key for key, _ in zip(sampler, range(3 * LENGTH))]
    assert [key // LENGTH for key in keys] == [turn for turn in range(3) for _ in range(LENGTH)]
    assert sorted(key % LENGTH for key in keys[LENGTH:2 * LENGTH]) == [*range(LENGTH)]
    sampler = RepeatableSampler(InfiniteSampler(Draws(), seed=0), LENGTH)
    sampler.skip(7)
    assert [key for key, _ in zip(sampler, range(5))] == keys[7:12]


def test_attributes_of_the_data_set_are_found():
    loader = make_repeatable(DataLoader(Draws()), 0)
    assert loader.dataset.name == 'draws' and isinstance(unwrapped(loader.dataset), Draws)
    with pytest.raises(AttributeError):
        _ = loader.dataset.absent


def test_random_state_survives_a_checkpoint(tmp_path):
    np.random.normal()  # Leaves half of a pair behind, which is part of the state.
    state = random_state()
    torch.save(state, tmp_path / 'state.pth')
    drawn = [*Draws()[0], np.random.normal()]
    restore_random_state(torch.load(tmp_path / 'state.pth', weights_only=True))
    assert [*Draws()[0], np.random.normal()] == drawn


@pytest.mark.situation('Smaller', 'a loader with `multiprocessing_context`, `in_order` or `pin_memory_device`',
                       before='they were dropped without a word', now='a loader keeps every argument that PyTorch has')
def test_loader_keeps_all_of_its_arguments():
    """A new argument of PyTorch's needs a value here, so that its loss is noticed."""
    values = dict(batch_size=3, num_workers=1, collate_fn=list, pin_memory=True, drop_last=True, timeout=7.0,
                  worker_init_fn=print, multiprocessing_context='spawn', prefetch_factor=5, persistent_workers=True,
                  pin_memory_device='cuda', in_order=False)
    known = {*inspect.signature(DataLoader).parameters} - {*REPLACED}
    assert known <= {*values}
    arguments = {name: values[name] for name in known}
    expected, loader = DataLoader(Draws(), **arguments), make_repeatable(DataLoader(Draws(), **arguments), 0)
    for name in known - {'multiprocessing_context'}:
        assert getattr(loader, name) == getattr(expected, name) == values[name], name
    assert loader.multiprocessing_context.get_start_method() == 'spawn'
