"""Which checkpoint is resumed, and which is the best: the files tell, and damaged ones are skipped."""
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from repvgg_seg.core.errors import CheckpointError, UserError
from repvgg_seg.core.reading import outline
from repvgg_seg.core.run_checkpoints import find_checkpoint
from repvgg_seg.engine.resuming import advice, candidates, checkpoint_folder, damage, find_resumable, find_what_to_resume

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
    with pytest.raises(CheckpointError, match='none of the 3 checkpoints in .* is intact; restore one, or train without --res'):
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


def write(folder: Path, files: dict[str, dict], best: dict | None = None) -> Path:
    """Checkpoints with some ``meta``, the first of which has the newest time; ``best`` is what their message hubs say."""
    folder.mkdir(exist_ok=True)
    for age, (name, meta) in enumerate(files.items()):
        torch.save({**STATE, 'meta': meta, 'message_hub': dict(runtime_info=best or {})}, folder / name)
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    return folder


@pytest.mark.situation('Data loss', '`--resume` after `cp -r`, a download, or a clock that went back',
                       before='the file with the newest time was resumed, an older epoch, and newer ones were overwritten',
                       now='the checkpoint with the most iterations is resumed; times count only where files say nothing')
@pytest.mark.parametrize(('files', 'expected'), [
    ({'epoch_1.pth': dict(iter=2), 'epoch_10.pth': dict(iter=20), 'epoch_9.pth': dict(iter=18)}, 'epoch_10.pth'),
    ({'epoch_9.pth': dict(iter=3), 'mine.pth': dict(iter=5)}, 'mine.pth'),  # Names do not count.
    ({'epoch_2.pth': dict(iter=4, epoch=2), 'interrupted.pth': dict(iter=5, epoch=2)}, 'interrupted.pth'),
    ({'interrupted.pth': dict(iter=4, epoch=1), 'epoch_2.pth': dict(iter=4, epoch=2)}, 'epoch_2.pth'),
    ({'epoch_2.pth': dict(iter=4, epoch=2), 'b.pth': dict(iter=4, epoch=2)}, 'epoch_2.pth'),  # Nothing else tells.
    ({'epoch_40.pth': dict(iter=80), 'epoch_1.pth': dict(iter=2, run=1)}, 'epoch_1.pth'),  # Of a run that was started later.
    ({'best_mIoU_epoch_4.pth': dict(iter=8), 'iter_2.pth': dict(iter=2), 'iter_4.pth': dict(iter=4)}, 'iter_4.pth'),
], ids=lambda value: '' if isinstance(value, dict) else value)
def test_furthest_is_taken_whatever_the_times(tmp_path, files, expected):
    write(tmp_path, files)
    assert find_resumable(tmp_path) == (tmp_path / expected, [])
    assert advice(tmp_path).endswith(expected)


@pytest.mark.situation('Data loss', 'the best checkpoint of a folder whose times changed by copying (`init_cfg`, the demo)',
                       before='the file with the newest time was taken for the best',
                       now='the one that the last checkpoint names as the best, else the one with the most iterations')
@pytest.mark.parametrize(('files', 'best', 'expected'), [
    ({'best_mIoU_epoch_1.pth': dict(iter=2), 'best_mIoU_epoch_3.pth': dict(iter=6), 'epoch_4.pth': dict(iter=8)}, {},
     'best_mIoU_epoch_3.pth'),
    ({'best_mIoU_epoch_5.pth': dict(iter=10), 'best_mIoU_epoch_2.pth': dict(iter=4), 'epoch_4.pth': dict(iter=8)},
     dict(best_ckpt='/elsewhere/best_mIoU_epoch_2.pth'), 'best_mIoU_epoch_2.pth'),
    ({'best_mAcc_epoch_3.pth': dict(iter=6), 'best_mIoU_epoch_1.pth': dict(iter=2), 'epoch_3.pth': dict(iter=6)},
     dict(best_ckpt_mIoU='/x/best_mIoU_epoch_1.pth', best_ckpt_mAcc='/x/best_mAcc_epoch_3.pth'), 'best_mIoU_epoch_1.pth'),
    ({'best_mIoU_epoch_1.pth': dict(iter=2), 'epoch_4.pth': dict(iter=8)}, dict(best_ckpt='/x/gone.pth'),
     'best_mIoU_epoch_1.pth'),
    ({'best_mIoU_epoch_9.pth': dict(iter=18), 'epoch_1.pth': dict(iter=2, run=1)}, {}, 'epoch_1.pth'),
    ({'epoch_2.pth': dict(iter=4), 'epoch_4.pth': dict(iter=8), 'epoch_3.pth': dict(iter=6)}, {}, 'epoch_4.pth'),
], ids=['iterations', 'what the last says', 'the first metric', 'the one named is gone', 'none of the last run', 'last'])
def test_best_checkpoint(tmp_path, files, best, expected):
    assert find_checkpoint(write(tmp_path, files, best)).name == expected


@pytest.mark.parametrize('broken', [
    [], 'text', dict(meta=None), dict(meta=dict(iter='3')), dict(meta=dict(iter=2), message_hub=3),
    dict(meta=dict(iter=2), message_hub=dict(runtime_info=[1]))], ids=str)
def test_what_says_nothing_sensible_breaks_nothing(folder, broken):
    torch.save(broken, folder / 'epoch_10.pth')
    assert find_checkpoint(folder) == folder / 'best_mIoU_epoch_10.pth'
    assert find_resumable(folder)[0].name == 'epoch_1.pth'


def test_looking_for_checkpoints_reads_no_tensors(tmp_path):
    torch.save(dict(STATE, state_dict=dict(weight=torch.zeros(2**22))), tmp_path / 'epoch_1.pth')

    def bytes_read() -> int:
        return int(re.search(r'rchar: (\d+)', Path('/proc/self/io').read_text())[1])

    before = bytes_read()
    assert candidates(tmp_path) and find_checkpoint(tmp_path)
    assert bytes_read() - before < 2**20
    os.mkfifo(tmp_path / 'pipe.pth')
    assert outline(tmp_path / 'pipe.pth') == {} and find_resumable(tmp_path)[0].name == 'epoch_1.pth'


def settings(folder: Path, **others) -> Config:
    hooks = dict(checkpoint=dict(type='CheckpointHook'))
    return Config(dict(dict(work_dir=str(folder), resume=True, load_from=None, default_hooks=hooks), **others))


@pytest.mark.situation('Data loss', '`--resume` in a copied work dir without a regular checkpoint',
                       before='the path in `last_checkpoint` was followed: the original was resumed in the copy',
                       now='training starts from scratch, and a line in the log says so')
def test_path_in_last_checkpoint_is_not_followed(tmp_path):
    write(tmp_path / 'original', {'epoch_1.pth': dict(iter=2)})
    copy = tmp_path / 'copy'
    copy.mkdir()
    (copy / 'last_checkpoint').write_text(str(tmp_path / 'original/epoch_1.pth'))
    config = settings(copy)
    assert find_what_to_resume(config) == (
        {}, 0, [f'There is no checkpoint in {copy} to resume from; training starts from scratch'])
    assert not config.resume and config.load_from is None


@pytest.mark.situation('Data loss', '`--resume` in a folder with only `best_*.pth`',
                       before='training started from scratch without a word', now='one line that says what is missing')
def test_best_checkpoint_alone_is_no_place_to_resume_from(tmp_path):
    write(tmp_path, {'best_mIoU_epoch_4.pth': dict(iter=8)})
    message = (f'{tmp_path} holds only best_mIoU_epoch_4.pth, which has weights but no optimizer to resume from; restore a '
               f'regular checkpoint, or start from its weights in another --work-dir, without --resume '
               f'(--cfg-options load_from={tmp_path}/best_mIoU_epoch_4.pth)')
    with pytest.raises(CheckpointError, match=f'^{re.escape(message)}$'):
        find_what_to_resume(settings(tmp_path))


def test_weights_alone_that_are_named_cannot_be_resumed(tmp_path):
    torch.save(dict(state_dict={}), tmp_path / 'weights.pth')
    message = (f'checkpoint {tmp_path}/weights.pth holds no meta, optimizer, message_hub to resume from; without --resume, '
               'load_from starts from its weights')
    with pytest.raises(CheckpointError, match=f'^{re.escape(message)}$'):
        find_what_to_resume(settings(tmp_path, load_from=str(tmp_path / 'weights.pth')))


@pytest.mark.situation('Data loss', '`--resume` with a config that starts from weights alone (`load_from`), as from `prune`',
                       before='refused, because the weights have no optimizer, though the work dir had a checkpoint with one',
                       now='the run in the work dir is resumed')
def test_run_that_started_from_weights_alone_is_resumed(tmp_path):
    torch.save(dict(state_dict={}), tmp_path / 'weights.pth')
    write(tmp_path / 'run', {'epoch_3.pth': dict(iter=6)})
    config = settings(tmp_path / 'run', load_from=str(tmp_path / 'weights.pth'))
    assert find_what_to_resume(config) == (dict(iter=6), 0, [])
    assert config.resume and config.load_from == str(tmp_path / 'run/epoch_3.pth')


def test_run_that_starts_beside_an_earlier_one(tmp_path):
    write(tmp_path, {'epoch_3.pth': dict(iter=6)})
    config = settings(tmp_path)
    assert find_what_to_resume(config)[1:] == (0, [])
    config.resume, config.load_from = False, None
    assert find_what_to_resume(config)[1:] == (1, [
        f'{tmp_path} holds epoch_3.pth of an earlier run; files of the same name will be replaced (--resume goes on with that '
        'run)'])


def test_checkpoints_elsewhere_are_resumed_from(tmp_path):
    write(tmp_path / 'run', {'epoch_3.pth': dict(iter=6)})
    config = settings('work_dirs/run')
    config.default_hooks.checkpoint.out_dir = str(tmp_path)
    assert checkpoint_folder(config) == tmp_path / 'run'
    assert find_what_to_resume(config)[0] == dict(iter=6)
    config.load_from, config.default_hooks.checkpoint.out_dir = None, 's3://bucket'
    message = ('the checkpoints of this config are in s3://bucket, where --resume does not look; name one with --cfg-options '
               'load_from=PATH')
    with pytest.raises(UserError, match=f'^{re.escape(message)}$'):
        find_what_to_resume(config)
