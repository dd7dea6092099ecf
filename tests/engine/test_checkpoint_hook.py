"""Our checkpoint hook where MMEngine's can be used: stock runners, other places for files, validations without a training."""
import shutil
from pathlib import Path

import pytest
import runs
from mmengine.config import Config
from mmengine.fileio import FileClient, LocalBackend
from mmengine.runner import EpochBasedTrainLoop
from mmengine.runner import Runner as StockRunner

from repvgg_seg.core.errors import UserError
from repvgg_seg.core.reading import read_checkpoint
from repvgg_seg.engine.checkpointing import CheckpointHook, DeferredRemovalBackend
from repvgg_seg.engine.runner import Runner

RUNNERS = dict(stock=StockRunner, ours=Runner)
PLACES = dict(default={}, file_client=dict(file_client_args=dict(backend='disk')),
              backend=dict(backend_args=dict(backend='local')))


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """Configs are not formatted for the log and for checkpoints."""
    monkeypatch.setattr(Config, 'pretty_text', '')


def config_of(work_dir: Path, **hook) -> Config:
    config = runs.settings(work_dir)
    config.default_hooks.checkpoint = dict(type='repvgg_seg.CheckpointHook', save_best='acc', **hook)
    return config


def runner_in(work_dir: Path) -> StockRunner:
    """A runner that has no checkpoint hook of its own, after nine epochs."""
    config = runs.settings(work_dir)
    config.default_hooks.checkpoint = None
    runner = StockRunner.from_cfg(config)
    runner.train_loop._epoch = 9
    return runner


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob('*.pth'))


@pytest.mark.parametrize('train', [True, False], ids=['train_cfg', 'no_train_cfg'])
@pytest.mark.parametrize('kind', RUNNERS)
def test_validation_without_a_training(tmp_path, kind, train):
    config = config_of(tmp_path)
    if not train:
        for key in ('train_cfg', 'train_dataloader', 'optim_wrapper', 'param_scheduler'):
            config[key] = None
    runner = RUNNERS[kind].from_cfg(config)
    assert runner.val().keys() == {'acc'}
    assert not isinstance(runner._train_loop, EpochBasedTrainLoop)
    assert checkpoints(tmp_path) == []
    assert not {'last_validation', 'best_ckpt', 'best_score'} & runner.message_hub.runtime_info.keys()


@pytest.mark.parametrize('is_training', [False, True])
def test_validation_without_metrics(tmp_path, is_training):
    runner, hook = runner_in(tmp_path), CheckpointHook(save_best='auto')
    if is_training:
        hook.before_train(runner)
    warnings = []
    runner.logger.warning = warnings.append
    hook.after_val_epoch(runner, {})
    assert warnings == ['Since `metrics` is an empty dict, the behavior to save the best checkpoint will be skipped in this '
                        'evaluation.']
    assert checkpoints(tmp_path) == []


@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('kind', RUNNERS)
def test_places_for_files(tmp_path, kind, place):
    runner = RUNNERS[kind].from_cfg(config_of(tmp_path, max_keep_ckpts=1, out_dir=str(tmp_path / 'out'), **PLACES[place]))
    runner.train()
    hook = next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    assert isinstance(hook.file_client, FileClient)
    if place == 'file_client':
        assert hook.file_backend is hook.file_client
    else:
        assert isinstance(hook.file_backend, DeferredRemovalBackend if place == 'default' else LocalBackend)
    folder = tmp_path / 'out' / tmp_path.name
    best = Path(runner.message_hub.get_info('best_ckpt'))
    assert best.parent == folder and checkpoints(tmp_path) == [best.name, 'epoch_4.pth']
    assert read_checkpoint(folder / 'epoch_4.pth')['meta']['iter'] == 12


@pytest.mark.parametrize('place', PLACES)
def test_stopped_and_resumed(tmp_path, place):
    def config(resume: bool = False) -> Config:
        config = config_of(tmp_path, max_keep_ckpts=2, **PLACES[place])
        config.resume = resume
        return config

    assert runs.run(config(), dict(type='Moment', stage='after_train_iter', iterations=5)) == (
        f'stopped by SIGTERM after iteration 5; the run can be resumed from {tmp_path}/interrupted.pth')
    assert read_checkpoint(tmp_path / 'interrupted.pth')['meta']['iter'] == 5
    assert runs.run(config(resume=True)) == 'done'
    assert runs.last(tmp_path)['meta']['iter'] == 12
    assert ('interrupted.pth' in checkpoints(tmp_path)) == (place != 'default')


def test_two_places_for_files(tmp_path):
    with pytest.raises(UserError) as error:
        runs.run(config_of(tmp_path, **PLACES['file_client'], **PLACES['backend']))
    assert str(error.value) == ('"file_client_args" and "backend_args" cannot be set at the same time; keep only '
                                'default_hooks.checkpoint.backend_args')
    assert checkpoints(tmp_path) == []


@pytest.mark.parametrize('metrics', [['acc'], ['acc', 'mIoU']], ids=['one', 'two'])
def test_training_twice_where_the_best_checkpoint_is_gone(tmp_path, metrics):
    """The names are those that the message hub has: nothing was copied, so there is no other run's checkpoint to spare."""
    runner, hook = runner_in(tmp_path), CheckpointHook(save_best=metrics)

    def best() -> dict[str, str | None]:
        return hook.best_ckpt_path_dict if len(metrics) > 1 else dict(acc=hook.best_ckpt_path)

    hook.before_train(runner)
    assert best() == dict.fromkeys(metrics)
    key = 'best_ckpt_acc' if len(metrics) > 1 else 'best_ckpt'
    runner.message_hub.update_info(key, 'gone')
    hook.before_train(runner)
    assert best() == dict(dict.fromkeys(metrics), acc='gone')
    assert runner.message_hub.get_info(key) == 'gone'
    hook.after_val_epoch(runner, dict.fromkeys(metrics, 0.5))
    assert checkpoints(tmp_path) == sorted(f'best_{metric}_epoch_9.pth' for metric in metrics)


def test_training_twice_in_one_process(tmp_path):
    runner, hook = runner_in(tmp_path), CheckpointHook(save_best='acc')
    hook.before_train(runner)
    hook.after_val_epoch(runner, dict(acc=0.5))
    hook.before_train(runner)
    assert hook.best_ckpt_path == str(tmp_path / 'best_acc_epoch_9.pth')
    runner.train_loop._epoch = 10
    hook.after_val_epoch(runner, dict(acc=0.6))
    assert hook.best_ckpt_path == str(tmp_path / 'best_acc_epoch_10.pth')
    hook._flush()
    assert checkpoints(tmp_path) == ['best_acc_epoch_10.pth']


@pytest.mark.parametrize('best', ['there', 'gone'])
def test_best_checkpoint_of_a_copied_run(tmp_path, best):
    """It is looked for in the folder that training goes on in, and that of the original stays."""
    original, copy = tmp_path / 'original' / 'run', tmp_path / 'copy' / 'run'
    runs.run(config_of(original), dict(type='Moment', stage='after_train_iter', iterations=5))
    shutil.copytree(original, copy)
    name = next(original.glob('best_*')).name
    if best == 'gone':
        (copy / name).unlink()
    config = config_of(copy)
    config.resume = True
    assert runs.run(config) == 'done'
    assert (original / name).exists()
    found = runs.last(copy)['message_hub']['runtime_info']['best_ckpt']
    assert found is None or Path(found).parent == copy
