"""Which checkpoint is resumed when some are damaged."""
import os
import shutil

import pytest
import torch

from repvgg_seg.engine.resuming import advice, damage, find_resumable
from repvgg_seg.errors import CheckpointError

STATE = dict(meta=dict(iter=3), state_dict=dict(weight=torch.arange(1000.)), optimizer={}, message_hub={})


def cut(data: bytes) -> bytes:
    return data[:len(data) // 2]


def flip_a_bit(data: bytes) -> bytes:
    """In the weights, which PyTorch would not notice."""
    position = data.index(STATE['state_dict']['weight'].numpy().tobytes()) + 2000
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1:]


DAMAGES = {'cut': cut, 'empty': lambda data: b'', 'zeros': lambda data: bytes(len(data)), 'bit': flip_a_bit,
           'text': lambda data: b'no space left on device\n', 'end': lambda data: data[:-30],
           'hole': lambda data: data[:2000] + bytes(1000) + data[3000:]}


@pytest.fixture
def folder(tmp_path):
    """Three checkpoints, and files that are none to resume from; the oldest first."""
    for age, name in enumerate(['epoch_9.pth', 'epoch_1.pth', 'epoch_10.pth', 'best_mIoU_epoch_10.pth', '.epoch_11.pth.17']):
        torch.save(STATE, tmp_path / name)
        os.utime(tmp_path / name, (1e9 + age, 1e9 + age))
    return tmp_path


def test_newest_is_taken(folder):
    assert find_resumable(folder) == (folder / 'epoch_10.pth', [])
    assert advice(folder) == f'The last good checkpoint is {folder}/epoch_10.pth'


@pytest.mark.parametrize('kind', DAMAGES)
def test_damaged_ones_are_skipped(folder, kind):
    for name, expected in (('epoch_10.pth', 'epoch_1.pth'), ('epoch_1.pth', 'epoch_9.pth')):
        path = folder / name
        times = path.stat()
        path.write_bytes(DAMAGES[kind](path.read_bytes()))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert name in damage(path)
        found, reasons = find_resumable(folder)
        assert found.name == expected and name in reasons[-1]
        assert advice(folder).endswith(expected)


def test_none_is_whole(folder):
    for path in folder.glob('*.pth'):
        path.write_bytes(b'')
    with pytest.raises(CheckpointError, match='none of the 3 checkpoints in .* is whole; restore one, or train without --res'):
        find_resumable(folder)
    assert advice(folder) == 'There is no checkpoint of this run yet'


def test_weights_alone_cannot_be_resumed(folder):
    torch.save(dict(state_dict=STATE['state_dict']), folder / 'epoch_10.pth')
    assert damage(folder / 'epoch_10.pth').endswith('holds no meta, optimizer, message_hub to resume from')
    assert find_resumable(folder)[0].name == 'epoch_1.pth'


def test_nothing_to_resume(tmp_path):
    assert find_resumable(tmp_path) == find_resumable(tmp_path / 'absent') == (None, [])


def test_link_to_a_checkpoint(folder):
    shutil.move(folder / 'epoch_10.pth', folder / 'elsewhere')
    (folder / 'epoch_10.pth').symlink_to(folder / 'elsewhere')
    assert find_resumable(folder)[0].name == 'epoch_10.pth'
