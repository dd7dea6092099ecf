"""tools/train.py and its work dir: copied, shared with another training, resumed with other data."""
import os
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import forget_earlier_runs
from mistakes import assert_error_line

from repvgg_seg.core.reading import read_checkpoint
from repvgg_seg.engine.locking import LOCK, locked
from repvgg_seg.engine.stopping import FiniteLossHook


@pytest.fixture(scope='module')
def trained(config, tmp_path_factory) -> Path:
    """The work dir of a run of one epoch of two iterations."""
    from mmengine.config import Config

    from repvgg_seg.engine.segmentation import train_segmentor
    forget_earlier_runs()
    loaded = Config.fromfile(config)
    loaded.train_cfg.max_epochs, loaded.work_dir = 1, str(tmp_path_factory.mktemp('trained') / 'run')
    train_segmentor(loaded)
    return Path(loaded.work_dir)


@pytest.mark.situation('Data loss', 'a work dir is copied and the copy resumed',
                       before="the original's best checkpoint was deleted when the copy had a better one",
                       now='only files of the copy are replaced')
def test_copy_leaves_the_original_alone(run_tool, config, trained, tmp_path):
    copy = Path(shutil.copytree(trained, tmp_path / 'copy'))
    checkpoint = read_checkpoint(copy / 'epoch_1.pth')
    checkpoint['message_hub']['runtime_info']['best_score'] = -1.0
    torch.save(checkpoint, copy / 'epoch_1.pth')
    before = {path: path.read_bytes() for path in trained.glob('*.pth')}
    assert (trained / 'best_mIoU_epoch_1.pth') in before
    result = run_tool('train', config, '--work-dir', copy, '--resume')
    assert result.code == 0 and result.out.endswith(f'Trained; the best checkpoint is {copy}/best_mIoU_epoch_2.pth\n')
    assert {path: path.read_bytes() for path in trained.glob('*.pth')} == before
    assert sorted(path.name for path in copy.glob('best*')) == ['best_mIoU_epoch_2.pth']


@pytest.mark.situation('Data loss', 'a script trains twice within a second',
                       before='the second run compared itself with the best score of the first, and wrote to its log',
                       now='each run has its own log and best checkpoint')
def test_runs_of_the_same_second_share_nothing(config, tmp_path, monkeypatch):
    from mmengine.config import Config

    from repvgg_seg.engine.segmentation import train_segmentor
    monkeypatch.setattr('mmengine.runner.runner.time',
                        SimpleNamespace(time=lambda: 1.0, localtime=time.gmtime, strftime=time.strftime))
    forget_earlier_runs()
    for name in ('first', 'second'):
        loaded = Config.fromfile(config)
        loaded.train_cfg.max_epochs, loaded.work_dir = 1, str(tmp_path / name)
        assert train_segmentor(loaded).name == 'best_mIoU_epoch_1.pth'
        log, = (tmp_path / name).glob('*/*.log')
        assert str(log) in log.read_text()
        assert (log.parent / 'vis_data/scalars.json').exists()


def test_second_training_is_one_line_and_testing_is_not_kept_out(run_tool, config, trained, tmp_path):
    reader, writer = os.pipe()
    if (first := os.fork()) == 0:
        try:
            with locked(tmp_path):
                os.write(writer, b'1')
                time.sleep(100)
        finally:
            os._exit(0)
    os.close(writer)  # So that reading ends where the child does.
    os.read(reader, 1)
    try:
        result = run_tool('train', config, '--work-dir', tmp_path)
        holder = (tmp_path / LOCK).read_text()
        assert holder.startswith(f'process {first} on ')
        assert_error_line(result, f'error: another training is running in {tmp_path} ({holder}); wait until it ends, stop it, '
                          'or choose another --work-dir')
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]
        assert run_tool('test', config, trained / 'epoch_1.pth', '--work-dir', tmp_path).code == 0
    finally:
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)


@pytest.fixture(scope='module')
def interrupted(config, tmp_path_factory) -> Path:
    """The work dir of a run that was stopped after the first iteration of two."""
    from mmengine.config import Config

    from repvgg_seg.core.errors import Interruption
    from repvgg_seg.engine.segmentation import train_segmentor
    forget_earlier_runs()
    loaded = Config.fromfile(config)
    loaded.work_dir = str(tmp_path_factory.mktemp('interrupted'))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interruption):
        patch.setattr(FiniteLossHook, 'after_train_iter', lambda *_, **__: signal.raise_signal(signal.SIGTERM))
        train_segmentor(loaded)
    return Path(loaded.work_dir)


@pytest.mark.situation('Silently wrong', '`--resume` within the first epoch, with another batch or dataset',
                       before='training went on; images were left out, others came twice', now='one line that names both')
@pytest.mark.parametrize(('option', 'now'), [
    ('train_dataloader.batch_size=4', '1 iterations per epoch (4 images, 4 per iteration)'),
    ('train_dataloader.dataset.indices=2', '1 iterations per epoch (2 images, 2 per iteration)')])
def test_other_data_in_the_first_epoch(run_tool, config, interrupted, option, now):
    result = run_tool('train', config, '--work-dir', interrupted, '--resume', '--cfg-options', option)
    path = interrupted / 'interrupted.pth'
    assert_error_line(
        result, f'error: {path} was trained with 2 iterations per epoch (4 images, 2 per iteration), resuming it would take '
        f'{now}; resume with the same training set and as many images per iteration as before (train_dataloader.batch_size '
        f'times the number of processes), or start from its weights in another --work-dir, '
        f'without --resume (--cfg-options load_from={path})')
