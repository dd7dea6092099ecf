"""tools/train.py and tools/test.py: metrics of other names, hardware that is not there, workers that die."""
import json
import multiprocessing
import os
import re
import signal

import pytest
from mistakes import assert_error_line
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from repvgg_seg.engine.stopping import FiniteLossHook
from repvgg_seg.models.pretrained import read_checkpoint

ONE_EPOCH = 'train_cfg.max_epochs=1'


@pytest.mark.situation('Tracebacks', 'test.py with `mDice`, a prefix, or `format_only`',
                       before="KeyError: 'mIoU' after the whole test set",
                       now='what the evaluator gives is printed and written')
@pytest.mark.parametrize(('options', 'line', 'names'), [
    (['iou_metrics=[mDice]'], r'mDice \S+, mean accuracy \S+, pixel accuracy [\d.]+; written to',
     {'mDice', 'mAcc', 'aAcc', 'classes'}),
    (['prefix=val'], r'val/aAcc \S+, val/mIoU \S+, val/mAcc [\d.]+; written to',
     {'val/mIoU', 'val/mAcc', 'val/aAcc', 'classes'}),
    (['format_only=True', 'output_dir=out'], 'no metrics; written to', set())], ids=['mDice', 'prefix', 'format_only'])
def test_other_metrics(run_tool, config, random_checkpoint, tmp_path, monkeypatch, options, line, names):
    monkeypatch.chdir(tmp_path)
    result = run_tool('test', config, random_checkpoint, '--work-dir', tmp_path, '--cfg-options',
                      *(f'test_evaluator.{option}' for option in options))
    assert result.code == 0 and re.match(line, result.out.splitlines()[-1])
    assert json.loads((tmp_path / 'test.json').read_text()).keys() - {'checkpoint', 'tta'} == names


@pytest.mark.situation('Tracebacks', '`save_best` names a metric that the evaluator does not give',
                       before='KeyError after the first epoch', now='one line before training')
def test_save_best_that_is_not_given(run_tool, config, tmp_path):
    result = run_tool('train', config, '--work-dir', tmp_path, '--cfg-options', 'val_evaluator.iou_metrics=[mDice]')
    assert_error_line(result, 'error: default_hooks.checkpoint.save_best is mIoU, but the val_evaluator gives aAcc, mDice, mAcc'
                      '; choose among these, or None')
    assert not list(tmp_path.glob('*.pth'))


def test_save_best_whose_direction_is_not_known(run_tool, config, tmp_path):
    result = run_tool('train', config, '--work-dir', tmp_path, '--cfg-options', 'default_hooks.checkpoint.save_best=strange')
    assert_error_line(result, 'error: whether more of strange is better or worse is not known; set '
                      'default_hooks.checkpoint.rule to greater or less')


@pytest.mark.situation('Tracebacks', '`AmpOptimWrapper` in a config, on a CPU', before='AssertionError: only available on gpu',
                       now='bfloat16, and a line in the log')
@pytest.mark.situation('Smaller', 'training without a validation that chooses', before='"the best checkpoint is" the last one',
                       now='"the last checkpoint is"')
@pytest.mark.parametrize('native', [True, False])
def test_amp_wrapper_on_a_cpu_and_the_last_checkpoint(run_tool, config, tmp_path, monkeypatch, native):
    monkeypatch.setattr('repvgg_seg.engine.hardware.cpu_has_bfloat16', lambda: native)
    result = run_tool('train', config, '--work-dir', tmp_path, '--cfg-options', ONE_EPOCH, 'optim_wrapper.type=AmpOptimWrapper',
                      'optim_wrapper.loss_scale=dynamic', 'default_hooks.checkpoint.save_best=None')
    assert result.code == 0
    assert result.out.endswith(f'Trained; the last checkpoint is {tmp_path}/epoch_1.pth\n')
    assert 'optim_wrapper.type is BFloat16OptimWrapper instead of AmpOptimWrapper, which needs a GPU' in result.out + result.err
    slow = 'this CPU has no bfloat16 instructions, so training takes longer than in float32; leave out --amp'
    assert (slow in result.out + result.err) != native


@pytest.mark.situation('Tracebacks', 'the system kills a worker of a data loader in training',
                       before="a traceback of PyTorch's; what was trained since the last checkpoint was lost",
                       now='one line that names memory as the likely reason; `interrupted.pth` is kept')
def test_worker_that_is_killed(run_tool, config, tmp_path, monkeypatch):
    """Between two batches: a handler of PyTorch's could end an iteration halfway, with half of its effects."""
    killed = []

    def kill(hook, runner, **_) -> None:
        for worker in multiprocessing.active_children():
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)
            worker.join(60)

    monkeypatch.setattr(FiniteLossHook, 'after_train_iter', kill)
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, '__defaults__', (0.2,))  # Instead of 5 s.
    result = run_tool('train', config, '--work-dir', tmp_path, '--cfg-options', 'train_dataloader.num_workers=1')
    assert len(killed) >= 1
    done = read_checkpoint(tmp_path / 'interrupted.pth')['meta']['iter']
    assert_error_line(result, f'error: a worker process of a data loader (pid(s) {killed[0]}) has died, most likely killed by '
                      'the system because the memory is full (in a container perhaps its /dev/shm); lower num_workers or '
                      f'batch_size of the loader. The run can be resumed from {tmp_path}/interrupted.pth')
    assert 1 <= done < 4


@pytest.mark.situation('Smaller', 'SIGHUP (a terminal that is closed)', before='the run ended without a checkpoint',
                       now='as with SIGTERM: `interrupted.pth`; with nohup it is ignored')
@pytest.mark.parametrize('ignored', [False, True], ids=['terminal', 'nohup'])
def test_hangup(run_tool, config, tmp_path, monkeypatch, ignored):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    monkeypatch.setattr(FiniteLossHook, 'after_train_iter', lambda *_, **__: signal.raise_signal(signal.SIGHUP))
    try:
        result = run_tool('train', config, '--work-dir', tmp_path, '--cfg-options', ONE_EPOCH)
    finally:
        signal.signal(signal.SIGHUP, before)
    if ignored:
        assert result.code == 0
    else:
        assert result.code == 128 + signal.SIGHUP
        assert result.out.splitlines()[-1] == (f'stopped by SIGHUP after iteration 1; the run can be resumed from {tmp_path}/'
                                               'interrupted.pth; continue with --resume')
        assert (tmp_path / 'interrupted.pth').is_file()
