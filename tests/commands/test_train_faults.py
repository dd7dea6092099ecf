"""tools/train.py when something breaks under it: signals, a full disk, a damaged checkpoint, a loss that is no number."""
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from helpers import forget_earlier_runs
from mistakes import assert_error_line

from repvgg_seg.core.reading import read_checkpoint
from repvgg_seg.datasets.toy import write_toy_streets
from repvgg_seg.engine.resuming import damage
from repvgg_seg.engine.stopping import FiniteLossHook

EPOCHS = ('train_cfg.max_epochs=3', 'param_scheduler.0.end=3')


@pytest.fixture(scope='module')
def trained(config, tmp_path_factory) -> Path:
    """The work dir of a run of three epochs of two iterations."""
    from mmengine.config import Config

    from repvgg_seg.engine.segmentation import train_segmentor
    forget_earlier_runs()
    loaded = Config.fromfile(config)
    loaded.train_cfg.max_epochs = loaded.param_scheduler[0].end = 3
    loaded.work_dir = str(tmp_path_factory.mktemp('unbroken'))
    train_segmentor(loaded)
    return Path(loaded.work_dir)


def same_weights(one: Path, other: Path) -> bool:
    states = [read_checkpoint(path)['state_dict'] for path in (one, other)]
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_damaged_newest_is_skipped_and_the_run_ends_the_same(run_tool, config, trained, tmp_path):
    work_dir = Path(shutil.copytree(trained, tmp_path / 'run'))
    newest = work_dir / 'epoch_3.pth'
    newest.write_bytes(newest.read_bytes()[:5000])
    result = run_tool('train', config, '--work-dir', work_dir, '--resume', '--cfg-options', *EPOCHS)
    text = result.out + result.err
    assert result.code == 0 and re.search(r'checkpoint \S+epoch_3\.pth .*; trying the one before it', text)
    assert 'resumed epoch: 2, iter: 4' in text
    assert same_weights(newest, trained / 'epoch_3.pth')


def test_loop_of_iterations_goes_on_the_same(run_tool, config, tmp_path, monkeypatch):
    """As the schedules of MMSegmentation are, with a sampler that has no end."""
    path = tmp_path / 'iterations.py'
    path.write_text(f"""
_base_ = '{config}'
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=6, val_interval=4)
train_dataloader = dict(sampler=dict(type='InfiniteSampler', shuffle=True))
param_scheduler = [dict(type='PolyLR', power=0.9, by_epoch=False, end=6)]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2, max_keep_ckpts=9))
log_processor = dict(by_epoch=False)
""")
    assert run_tool('train', path, '--work-dir', tmp_path / 'run').code == 0
    with monkeypatch.context() as patch:
        patch.setattr(FiniteLossHook, 'after_train_iter',
                      lambda self, runner, **_: runner.iter == 2 and signal.raise_signal(signal.SIGTERM))
        stopped = run_tool('train', path, '--work-dir', tmp_path / 'resumed')
    assert stopped.code == 143 and 'stopped by SIGTERM after iteration 3; the run can be resumed from' in stopped.out
    result = run_tool('train', path, '--work-dir', tmp_path / 'resumed', '--resume')
    assert result.code == 0 and 'iter: 3' in result.out + result.err
    assert same_weights(tmp_path / 'resumed/iter_6.pth', tmp_path / 'run/iter_6.pth')


def test_validation_that_was_cut_off_is_made_up_for(run_tool, config, trained, tmp_path):
    """As if the process had died right after it wrote the last checkpoint."""
    work_dir = tmp_path / 'run'
    options = (*EPOCHS, 'train_cfg.val_begin=4')  # None was done.
    assert run_tool('train', config, '--work-dir', work_dir, '--cfg-options', *options).code == 0
    assert not list(work_dir.glob('best_*'))
    result = run_tool('train', config, '--work-dir', work_dir, '--resume', '--cfg-options', *EPOCHS)
    assert 'The validation after the last checkpoint was cut off' in result.out + result.err
    assert re.search(r'best checkpoint is \S+best_mIoU_epoch_3\.pth', result.out)


def test_full_disk_is_one_line_and_earlier_checkpoints_stay_whole(run_tool, config, small_disk, trained):
    options = ('--cfg-options', *EPOCHS, 'default_hooks.checkpoint.save_best=None')
    size = (trained / 'epoch_3.pth').stat().st_size
    (small_disk / 'other').write_bytes(bytes(int(shutil.disk_usage(small_disk).free - 2.5 * size)))
    result = run_tool('train', config, '--work-dir', small_disk, *options)
    assert_error_line(result, re.compile(
        rf'error: {re.escape(str(small_disk))}/epoch_3\.pth \(\d\.\d MB\) cannot be written: the disk is full \(\d\.\d MB '
        r'free\) or the quota spent; files written before it are unharmed\. Make room or choose another folder'))
    left = sorted(path.name for path in small_disk.glob('*pth*'))
    assert left == ['epoch_1.pth', 'epoch_2.pth']
    assert [damage(small_disk / name) for name in left] == [None, None]
    (small_disk / 'other').unlink()
    assert run_tool('train', config, '--work-dir', small_disk, '--resume', *options).code == 0
    assert same_weights(small_disk / 'epoch_3.pth', trained / 'epoch_3.pth')


@pytest.mark.situation('Silently wrong', 'the advice of the NaN error, "lower the learning rate", with `--resume`',
                       before='had no effect: the learning rate of the checkpoint was used', now='is followed')
def test_loss_that_is_no_number_stops_the_run(run_tool, config, tmp_path):
    work_dir = tmp_path / 'run'
    assert run_tool('train', config, '--work-dir', work_dir, '--cfg-options', 'train_cfg.max_epochs=1').code == 0
    before = (work_dir / 'epoch_1.pth').read_bytes()
    result = run_tool('train', config, '--work-dir', work_dir, '--resume', '--cfg-options', *EPOCHS,
                      'optim_wrapper.optimizer.lr=1e30')
    assert_error_line(
        result, 'error: the loss is nan in iteration 4; its weights were not saved. The last good checkpoint is '
        f'{work_dir}/epoch_1.pth. Lower optim_wrapper.optimizer.lr, warm it up, or clip gradients '
        '(optim_wrapper.clip_grad.max_norm=1), or train without --amp')
    assert (work_dir / 'epoch_1.pth').read_bytes() == before and not (work_dir / 'epoch_2.pth').exists()
    result = run_tool('train', config, '--work-dir', work_dir, '--resume', '--cfg-options', *EPOCHS)
    assert result.code == 0 and (work_dir / 'epoch_3.pth').exists()


def test_start_from_a_model_of_other_classes(run_tool, config, trained, tmp_path):
    """``load_from`` takes all weights but those of the classes, and says so; anything else that differs is refused."""
    checkpoint = read_checkpoint(trained / 'epoch_3.pth')
    for head in ('decode_head', 'auxiliary_head'):
        for key in (f'{head}.conv_seg.weight', f'{head}.conv_seg.bias'):
            checkpoint['state_dict'][key] = checkpoint['state_dict'][key][:5]
    torch.save(checkpoint, tmp_path / 'five.pth')
    options = ('--work-dir', tmp_path / 'run', '--cfg-options', f'load_from={tmp_path}/five.pth', 'train_cfg.max_epochs=1',
               'optim_wrapper.optimizer.lr=0.0', 'model.decode_head.dropout_ratio=0')
    result = run_tool('train', config, *options)
    assert result.code == 0
    assert re.search(r'decode_head\.conv_seg\.weight of \S+five\.pth is for 5 classes, the model has 12: it starts from '
                     'scratch', result.out + result.err)
    state = read_checkpoint(tmp_path / 'run/epoch_1.pth')['state_dict']
    name = 'decode_head.bottleneck.conv.weight'
    assert torch.equal(state[name], checkpoint['state_dict'][name])
    del checkpoint['state_dict'][name]
    torch.save(checkpoint, tmp_path / 'five.pth')
    assert_error_line(run_tool('train', config, *options),
                      f'error: checkpoint {tmp_path}/five.pth does not fit the model: tensors 1 missing ({name}); use the '
                      'config it was trained with')


def test_weights_that_are_not_finite_are_not_saved(run_tool, config, tmp_path, monkeypatch):
    """After the last iteration before a checkpoint no loss tells."""
    def poison(hook, runner, **_):
        if runner.iter == 3:
            next(runner.model.parameters()).data[0] = torch.inf

    monkeypatch.setattr(FiniteLossHook, 'after_train_iter', poison)
    result = run_tool('train', config, '--work-dir', tmp_path, '--cfg-options', *EPOCHS)
    assert_error_line(result, (
        'error: after iteration 4 weights are not finite (backbone.stem.conv.branch_3x3.conv.weight); they were not saved. The '
        f'last good checkpoint is {tmp_path}/epoch_1.pth'))
    assert sorted(path.name for path in tmp_path.glob('epoch*.pth')) == ['epoch_1.pth']


@pytest.fixture(scope='module')
def long(tmp_path_factory) -> tuple[Path, Path]:
    """A config of two epochs of 20 iterations, and the weights that a run of it leaves."""
    from mmengine.config import Config

    from repvgg_seg.engine.segmentation import train_segmentor
    folder = tmp_path_factory.mktemp('long')
    write_toy_streets(folder / 'streets', dict(train=40, val=2), 48, 64)
    config = tiny.write_segmentor_config(folder / 'config.py', folder / 'streets')
    loaded = Config.fromfile(config)
    loaded.work_dir = str(folder / 'unbroken')
    forget_earlier_runs()
    train_segmentor(loaded)
    return config, folder / 'unbroken/epoch_2.pth'


def listen_to_ctrl_c() -> None:
    """Where the tests run in the background, SIGINT is ignored, and a new process inherits that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.whole
@pytest.mark.parametrize(('number', 'workers'), [(signal.SIGTERM, 1), (signal.SIGINT, 0)], ids=['SIGTERM', 'Ctrl-C'])
def test_signal_ends_with_a_checkpoint_from_which_the_run_goes_on(run_tool, long, tmp_path, number, workers):
    """Sent to the workers too, as a terminal and Slurm do."""
    config, unbroken = long
    options = ('--work-dir', tmp_path, '--cfg-options', f'train_dataloader.num_workers={workers}')
    process = subprocess.Popen([sys.executable, tiny.ROOT / 'tools/train.py', config, *options], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, start_new_session=True, preexec_fn=listen_to_ctrl_c)
    said = []
    for line in process.stdout:
        said.append(line)
        if '[ 3/20]' in line:
            os.killpg(process.pid, number)
    assert process.wait(120) == 128 + number, ''.join(said)[-3000:]
    stopped = re.fullmatch(r'stopped by (\w+) after iteration (\d+); the run can be resumed from \S+interrupted\.pth; '
                           r'continue with --resume\n', said[-1])
    assert stopped and stopped[1] == number.name and 3 <= int(stopped[2]) < 20, said[-1]
    assert 'Traceback' not in ''.join(said)
    assert [path.name for path in tmp_path.glob('*.pth')] == ['interrupted.pth']

    result = run_tool('train', config, *options[:2], '--resume', *options[2:])
    text = result.out + result.err
    assert result.code == 0 and f'resumed epoch: 0, iter: {stopped[2]}' in text
    assert re.findall(r'Epoch\(train\)\s+\[1\]\[ *(\d+)/20\]', text) == [str(done) for done in range(int(stopped[2]) + 1, 21)]
    assert same_weights(tmp_path / 'epoch_2.pth', unbroken) and not (tmp_path / 'interrupted.pth').exists()
