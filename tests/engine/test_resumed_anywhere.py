"""Stopped or killed at any moment, saved in any way, with any hooks: the resumed run ends as the unbroken one.

python -m pytest -m slow tests/engine/test_resumed_anywhere.py tries all combinations.
"""
import itertools
import random
from pathlib import Path

import pytest
import runs
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from repvgg_seg.core.errors import CheckpointError
from repvgg_seg.core.reading import read_checkpoint

pytestmark = pytest.mark.whole

EPOCH, LENGTH = 3, 12  # Iterations of an epoch, and of a run.


@HOOKS.register_module()
class OtherWeights(Hook):
    """Other weights in the model from the beginning of a validation to its very end."""
    priority = 'LOWEST'  # The best checkpoint is written before they are taken back.

    def before_val(self, runner) -> None:
        self.trained = {name: weight.clone() for name, weight in runner.model.state_dict().items()}
        for parameter in runner.model.parameters():
            parameter.data *= 0.5

    def after_val(self, runner) -> None:
        runner.model.load_state_dict(self.trained)


EARLY = dict(type='EarlyStoppingHook', monitor='acc', rule='greater', patience=1, min_delta=0.0)
HOOKS_OF = {
    'none': [], 'EMA': [dict(type='EMAHook', momentum=0.1)], 'EMA from 4': [dict(type='EMAHook', momentum=0.1, begin_iter=4)],
    'EMA of buffers': [dict(type='EMAHook', momentum=0.1, update_buffers=True, begin_iter=5)],
    'other weights': [dict(type='OtherWeights')], 'both': [dict(type='EMAHook', momentum=0.1), dict(type='OtherWeights')],
    'early stopping': [EARLY]}
SAVERS = {
    'epochs': dict(interval=1, max_keep_ckpts=2), 'epochs 2': dict(interval=2),
    'iterations 1': dict(by_epoch=False, interval=1, max_keep_ckpts=3), 'iterations 3': dict(by_epoch=False, interval=3),
    'iterations 4': dict(by_epoch=False, interval=4, max_keep_ckpts=1), 'iterations 5, no best': dict(
        by_epoch=False, interval=5, save_best=None), 'at the end': dict(interval=-1)}
INFINITE = {'train_dataloader.sampler': dict(type='InfiniteSampler', shuffle=True)}
ITERATIONS = dict(type='IterBasedTrainLoop', max_iters=LENGTH, val_interval=3)
BY_ITERATION = {'param_scheduler': [dict(type='PolyLR', power=0.9, end=LENGTH, by_epoch=False)]}
LOOPS = {
    'epochs': {}, 'val_begin': {'train_cfg.val_begin': 2, 'train_cfg.val_interval': 2},
    'dynamic': {'train_cfg.val_interval': 3, 'train_cfg.dynamic_intervals': [(2, 1)]},
    'accumulated': {'optim_wrapper.accumulative_counts': 2},
    'by epoch': {'param_scheduler': [dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4),
                                     dict(type='StepLR', step_size=1, gamma=0.5, by_epoch=True)]},
    'plateau': {'param_scheduler': [dict(type='ReduceOnPlateauLR', monitor='acc', rule='greater', patience=0, factor=0.5)]},
    'iterations': {**INFINITE, **BY_ITERATION, 'train_cfg': ITERATIONS},
    'iterations of passes': {**BY_ITERATION, 'train_cfg': dict(ITERATIONS, val_interval=5, val_begin=5)},
    'iterations accumulated': {**INFINITE, **BY_ITERATION, 'train_cfg': dict(ITERATIONS, val_interval=4),
                               'optim_wrapper.accumulative_counts': 5}}
STATE = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'random_states', 'gradients', 'early_stopping')
STAGES = ('after_train_iter', 'after_val_iter', 'before_val_epoch', 'after_val_epoch', 'before_save_checkpoint')
ALL = list(itertools.product(HOOKS_OF, SAVERS, LOOPS, STAGES, (3, 4, 5, 6, 9, 10, 11, LENGTH), ('stopped', 'killed')))


def covering() -> list[tuple]:
    """Some of all combinations, in which each kind of hook and each way of saving meets each loop and each stage."""
    def pairs(combination: tuple) -> set[tuple]:
        hooks, saver, loop, stage, *_ = combination
        return {(hooks, loop), (saver, loop), (hooks, stage), (saver, stage)}

    choose, chosen, missing = random.Random(1), [], set().union(*map(pairs, ALL))
    while missing:
        chosen.append(max(choose.sample(ALL, 500), key=lambda combination: len(pairs(combination) & missing)))
        missing -= pairs(chosen[-1])
    return chosen


@pytest.fixture(scope='module', autouse=True)
def fast():
    """Configs are not formatted for the log and for checkpoints, and nothing sleeps between passes over a set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, 'pretty_text', '')
        patch.setattr('mmengine.runner.loops.time.sleep', lambda _: None)
        yield


def config_of(work_dir: Path, hooks: str, saver: str, loop: str, resume: bool = False) -> Config:
    config = runs.settings(work_dir, resume=resume, **LOOPS[loop])
    config.default_hooks.checkpoint = dict(type='CheckpointHook', **{'save_best': 'acc', **SAVERS[saver]})
    config.custom_hooks = HOOKS_OF[hooks]
    return config


@pytest.fixture(scope='module')
def unbroken(tmp_path_factory):
    """A function that gives the last checkpoint of a run that nothing stopped."""
    made: dict[tuple, dict] = {}

    def last(*kinds: str) -> dict:
        if kinds not in made:
            work_dir = tmp_path_factory.mktemp('unbroken')
            assert runs.run(config_of(work_dir, *kinds)) == 'done'
            made[kinds] = runs.last(work_dir)
        return made[kinds]
    return last


def assert_same(found: object, expected: object, place: str) -> None:
    """Equal bit for bit."""
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), place
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), place
        for key in expected:
            assert_same(found[key], expected[key], f'{place}.{key}')
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), place
        for index, pair in enumerate(zip(found, expected)):
            assert_same(*pair, f'{place}.{index}')
    else:
        assert found == expected, place


def check(unbroken, work_dir: Path, combination: tuple) -> None:
    """Stop or kill at a moment, resume, and compare with the unbroken run."""
    *kinds, stage, iterations, how = combination
    ended = runs.run(config_of(work_dir, *kinds),
                     dict(type='Moment', stage=stage, iterations=iterations, kill=how == 'killed'))
    if ended not in ('done', 'killed'):
        assert ended in [f'stopped by SIGTERM after iteration {read_checkpoint(path)["meta"]["iter"]}; the run can be resumed '
                         f'from {path}' for path in work_dir.glob('*.pth')]
    if list(work_dir.glob('best_*')) == list(work_dir.glob('*.pth')) != []:  # Killed before a checkpoint to resume from.
        with pytest.raises(CheckpointError):
            runs.run(config_of(work_dir, *kinds, resume=True))
        return
    assert runs.run(config_of(work_dir, *kinds, resume=True)) == 'done'
    found, expected = runs.last(work_dir), unbroken(*kinds)
    assert (found['meta']['iter'], found['meta']['epoch']) == (expected['meta']['iter'], expected['meta']['epoch'])
    for key in STATE:
        assert_same(found.get(key), expected.get(key), key)
    assert_same(*(each['message_hub']['runtime_info'].get('best_score') for each in (found, expected)), 'best_score')


@pytest.mark.situation('Silently wrong', 'stopped or killed at any moment, in training, while saving or in a validation, with '
                       'checkpoints by epochs or iterations, with `EMAHook` or others that change weights for a while',
                       before='some combinations ended with other weights, began an epoch again, or were refused for an untrue '
                       'reason', now='the resumed run ends with the iterations and weights of the unbroken one')
@pytest.mark.parametrize('combination', covering(), ids=lambda value: ', '.join(map(str, value)))
def test_resumed_run_ends_as_the_unbroken_one(unbroken, tmp_path, combination):
    check(unbroken, tmp_path, combination)


@pytest.mark.slow
@pytest.mark.parametrize('kinds', itertools.product(HOOKS_OF, SAVERS, LOOPS), ids=', '.join)
def test_all_combinations(unbroken, tmp_path, kinds):
    for index, combination in enumerate(each for each in ALL if each[:3] == kinds):
        check(unbroken, tmp_path / str(index), combination)
