"""A dry run measures the beginning of a training and leaves nothing behind; the training after it is the same as without it."""
import tempfile
from pathlib import Path

import pytest
from mmengine.registry import HOOKS
from runs import BATCH, IMAGES, Moment, last, run, settings

from repvgg_seg.core.durations import in_words
from repvgg_seg.engine.dry_run import Expectation, dry_run


@pytest.fixture(autouse=True)
def temporary(monkeypatch, tmp_path) -> Path:
    """A folder in place of the system's for temporary files."""
    folder = tmp_path / 'temporary'
    folder.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(folder))
    return folder


@HOOKS.register_module()
class Stages(Moment):
    """Counts how often a hook of some name is called."""
    seen: list[int] = []

    def called(self, runner, *_, **__) -> None:
        self.seen.append(runner.iter)


def test_two_iterations_and_a_validation_batch(tmp_path, temporary):
    Stages.seen.clear()
    hooks = [dict(type='Stages', stage=stage, iterations=0) for stage in ('before_train_iter', 'before_val_iter')]
    config, expected = dry_run(settings(tmp_path / 'run', custom_hooks=hooks), lambda *_: None)
    assert Stages.seen == [0, 1, 1, 1]  # The batch is predicted twice, and timed the second time.
    assert config.work_dir == str(tmp_path / 'run') and config.train_cfg.type == 'repvgg_seg.EpochBasedTrainLoop'
    batches = IMAGES // BATCH
    assert (expected.iterations, expected.validations, expected.batches) == (4 * batches, 4, batches)
    assert 0 < expected.iteration < 1 and 0 < expected.batch < 1 and expected.memory > 2**27
    assert not (tmp_path / 'run').exists() and not [*temporary.iterdir()]


def test_of_a_resumed_run(tmp_path):
    run(settings(tmp_path), dict(type='Moment', stage='after_train_iter', iterations=5))
    before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    config, expected = dry_run(settings(tmp_path, resume=True, **{'default_hooks.checkpoint.out_dir': None}), lambda *_: None)
    assert (expected.iterations, expected.validations) == (7, 3) and config.load_from == str(tmp_path / 'interrupted.pth')
    assert {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()} == before
    resumed = run(settings(tmp_path, resume=True))
    assert resumed == 'done' and last(tmp_path)['meta']['iter'] == 12


def test_checkpoints_of_every_iteration_go_nowhere(tmp_path):
    hook = dict(type='CheckpointHook', interval=1, by_epoch=False, out_dir=str(tmp_path / 'elsewhere'))
    dry_run(settings(tmp_path / 'run', **{'default_hooks.checkpoint': hook}), lambda *_: None)
    assert [path.name for path in tmp_path.iterdir()] == ['temporary']


def test_a_training_of_one_iteration(tmp_path):
    _, expected = dry_run(settings(tmp_path, train_cfg=dict(by_epoch=False, max_iters=1), param_scheduler=[]), lambda *_: None)
    assert expected.iterations == 1 and expected.iteration > 0


def test_without_validation(tmp_path):
    changes = dict(val_dataloader=None, val_cfg=None, val_evaluator=None, train_cfg=dict(by_epoch=True, max_epochs=4))
    changes['default_hooks.checkpoint.save_best'] = None
    _, expected = dry_run(settings(tmp_path, **changes), lambda *_: None)
    assert str(expected).startswith('The training would take about 0 seconds: 12 iterations (')
    assert (expected.validations, expected.batches, expected.batch) == (0, 0, 0)


def test_in_words():
    expected = Expectation(4000, 1.5, 10, 101, 0.25, 3 * 2**30, 'on the GPU')
    assert expected.seconds == 4000 * 1.5 + 10 * 101 * 0.25
    assert str(expected) == ('The training would take about 1.7 hours: 4000 iterations (1.5 s each) and 10 validations of 101 '
                             'batches (0.25 s each); and 3.0 GiB of memory on the GPU')


@pytest.mark.parametrize(('seconds', 'words'), [
    (0.2, '0 seconds'), (20, '20 seconds'), (600, '10 minutes'), (9000, '2.5 hours')])
def test_durations(seconds, words):
    assert in_words(seconds) == words
