"""What the user changed in the config before ``--resume`` is used, or refused in one line."""
import shutil
from pathlib import Path

import pytest
import runs
import torch
from mmengine.config import Config

from repvgg_seg.core.errors import CheckpointError, UserError
from repvgg_seg.core.reading import read_checkpoint

DONE = 5  # Iterations of the run that is resumed, in the second of four epochs.


@pytest.fixture(scope='module', autouse=True)
def fast():
    """Configs are not formatted for the log and for checkpoints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, 'pretty_text', '')
        yield


@pytest.fixture(scope='module')
def stopped(tmp_path_factory):
    """A function that gives a copy of the work dir of a run that was stopped; with some settings."""
    made: dict[str, Path] = {}

    def work_dir(target: Path, **changes) -> Path:
        if (key := repr(changes)) not in made:
            made[key] = tmp_path_factory.mktemp('stopped') / 'run'
            assert 'after iteration 5' in runs.run(runs.settings(made[key], **changes),
                                                   dict(type='Moment', stage='after_train_iter', iterations=DONE))
        return Path(shutil.copytree(made[key], target))
    return work_dir


def settings_of(checkpoint: dict) -> list:
    """Hyperparameters of the optimizer, and the schedules."""
    groups = [{key: value for key, value in group.items() if key != 'params'}
              for group in checkpoint['optimizer']['param_groups']]
    return [groups, checkpoint.get('param_schedulers')]


OPTIMIZER = 'optim_wrapper.optimizer'
POLY = dict(type='PolyLR', power=0.9, end=4, by_epoch=True, convert_to_iter_based=True)
WARM = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4),
        dict(type='CosineAnnealingLR', begin=4, end=12, by_epoch=False, eta_min=1e-4)]


@pytest.mark.situation('Silently wrong', '`--resume` with a longer schedule, or other settings of the optimizer',
                       before='added epochs had learning rate 0; other settings were ignored',
                       now='as if the run had had these settings from its beginning')
@pytest.mark.parametrize('changes', [
    {'train_cfg.max_epochs': 8, 'param_scheduler': [dict(POLY, end=8)]},
    {'train_cfg.max_epochs': 8, 'param_scheduler': [dict(type='CosineAnnealingLR', end=8, by_epoch=True)]},
    {'train_cfg.max_epochs': 3, 'param_scheduler': [dict(POLY, end=3)]},
    {f'{OPTIMIZER}.lr': 0.001}, {f'{OPTIMIZER}.weight_decay': 0.1}, {f'{OPTIMIZER}.momentum': 0.5},
    {'optim_wrapper.paramwise_cfg': dict(custom_keys=dict(head=dict(lr_mult=10)))},
    {'optim_wrapper.paramwise_cfg': dict(bias_decay_mult=0, norm_decay_mult=0)},
    {'param_scheduler': WARM}, {'param_scheduler': [dict(type='MultiStepLR', milestones=[1, 3], by_epoch=True)]},
    {'param_scheduler': [dict(type='OneCycleLR', eta_max=0.02, total_steps=12, by_epoch=False)]},
    {'param_scheduler': [POLY, dict(type='CosineAnnealingMomentum', eta_min=0.1, end=4, by_epoch=True)]},
    {'param_scheduler': None}, {'optim_wrapper.type': 'repvgg_seg.BFloat16OptimWrapper', f'{OPTIMIZER}.lr': 0.02},
], ids=['longer', 'longer cosine', 'shorter', 'lr', 'weight decay', 'momentum', 'lr_mult', 'decay_mult', 'warm-up',
        'by epoch', 'one cycle', 'momentum schedule', 'no schedule', 'AMP'])
def test_changed_settings_are_used(stopped, tmp_path, changes):
    assert runs.run(runs.settings(tmp_path / 'unbroken', **changes)) == 'done'
    assert runs.run(runs.settings(stopped(tmp_path / 'resumed'), resume=True, **changes)) == 'done'
    last = max(tmp_path.glob('unbroken/epoch_*.pth'))
    resumed, unbroken = (read_checkpoint(tmp_path / name / last.name) for name in ('resumed', 'unbroken'))
    assert resumed['meta']['iter'] == unbroken['meta']['iter'] > DONE
    assert settings_of(resumed) == settings_of(unbroken)


@pytest.mark.parametrize('optimizer', [
    dict(type='SGD', lr=0.01, momentum=0.9), dict(type='AdamW', lr=0.01), dict(type='Adam', lr=0.01, amsgrad=True),
    dict(type='RMSprop', lr=0.01, momentum=0.9)], ids=lambda value: value['type'])
def test_state_is_found_again_in_other_groups(stopped, tmp_path, optimizer):
    """One group before, one of the head and one of the rest now, which computes the same."""
    base = {'optim_wrapper.optimizer': dict(optimizer, _delete_=True)}
    assert runs.run(runs.settings(tmp_path / 'unbroken', **base)) == 'done'
    assert runs.run(runs.settings(stopped(tmp_path / 'resumed', **base), resume=True, **base, **{
        'optim_wrapper.paramwise_cfg': dict(custom_keys=dict(head=dict(lr_mult=1.0)))})) == 'done'
    resumed, unbroken = (runs.last(tmp_path / name) for name in ('resumed', 'unbroken'))
    assert (len(resumed['optimizer']['param_groups']), len(unbroken['optimizer']['param_groups'])) == (2, 1)
    for key, weights in unbroken['state_dict'].items():
        torch.testing.assert_close(resumed['state_dict'][key], weights, rtol=0, atol=0)


@pytest.mark.parametrize(('before', 'now'), [
    (dict(type='Adam'), dict(type='Adam', amsgrad=True)), (dict(type='RMSprop'), dict(type='RMSprop', momentum=0.9)),
    (dict(type='RMSprop'), dict(type='RMSprop', centered=True)),
    (dict(type='SGD'), dict(type='SGD', momentum=0.9, nesterov=True)),
    (dict(type='SGD', momentum=0.9), dict(type='SGD'))], ids=str)
def test_settings_that_need_another_state(stopped, tmp_path, before, now):
    before, now = ({'optim_wrapper.optimizer': dict(optimizer, lr=0.01, _delete_=True)} for optimizer in (before, now))
    assert runs.run(runs.settings(stopped(tmp_path / 'run', **before), resume=True, **now)) == 'done'
    assert runs.last(tmp_path / 'run')['meta']['iter'] == 12


def refused(config: Config, kind: type[UserError] = UserError) -> str:
    """What is said; nothing was written."""
    work_dir = Path(config.work_dir)
    before = {path.name: path.read_bytes() for path in work_dir.glob('*.pth')}
    with pytest.raises(kind) as caught:
        runs.run(config)
    assert {path.name: path.read_bytes() for path in work_dir.glob('*.pth')} == before
    return str(caught.value)


@pytest.mark.situation('Tracebacks', '`--resume` with another kind of optimizer',
                       before="KeyError: 'exp_avg' in the first step", now='one line that says how to start from the weights')
@pytest.mark.parametrize('recorded', [True, False], ids=['ours', "MMEngine's"])
def test_another_kind_of_optimizer(stopped, tmp_path, recorded):
    work_dir = stopped(tmp_path / 'run')
    path, found = work_dir / 'interrupted.pth', 'SGD'
    if not recorded:
        checkpoint = read_checkpoint(path)
        del checkpoint['meta']['optimization']
        torch.save(checkpoint, path)
        found = 'an optimizer without amsgrad, betas, eps'
    config = runs.settings(work_dir, resume=True, **{'optim_wrapper.optimizer': dict(type='AdamW', lr=1e-3, _delete_=True)})
    assert refused(config) == (
        f'{path} was trained with {found}, the config has AdamW, which cannot continue from its state; resume with the '
        f'optimizer of before, or start from its weights in another '
        f'--work-dir, without --resume (--cfg-options load_from={path})')


def test_mmengines_checkpoints_have_no_names(stopped, tmp_path):
    work_dir = stopped(tmp_path / 'run')
    path = work_dir / 'interrupted.pth'
    checkpoint = read_checkpoint(path)
    del checkpoint['meta']['optimization']
    torch.save(checkpoint, path)
    shutil.copytree(work_dir, tmp_path / 'other')
    assert runs.run(runs.settings(work_dir, resume=True)) == 'done'
    assert runs.run(runs.settings(tmp_path / 'unbroken')) == 'done'
    for key, weights in runs.last(tmp_path / 'unbroken')['state_dict'].items():
        assert torch.equal(runs.last(work_dir)['state_dict'][key], weights)

    path = tmp_path / 'other/interrupted.pth'
    states = checkpoint['optimizer']['state']
    states[0], states[4] = states[4], states[0]
    torch.save(checkpoint, path)
    rest = f'; start from its weights in another --work-dir, without --resume (--cfg-options load_from={path})'
    assert refused(runs.settings(path.parent, resume=True), CheckpointError) == (
        f'checkpoint {path} holds the optimizer state of a parameter of another shape than layers.0.weight{rest}')
    checkpoint['optimizer']['param_groups'][0]['params'].pop()
    torch.save(checkpoint, path)
    assert refused(runs.settings(path.parent, resume=True), CheckpointError) == (
        f'checkpoint {path} holds the optimizer state of other parameters than the config trains{rest}')


def test_schedule_that_follows_the_validations(stopped, tmp_path):
    plateau = dict(param_scheduler=[dict(type='ReduceOnPlateauLR', monitor='acc', rule='greater', patience=0, factor=0.5)])
    work_dir = stopped(tmp_path / 'run', **plateau)
    path = work_dir / 'interrupted.pth'
    assert refused(runs.settings(work_dir, resume=True, **plateau, **{f'{OPTIMIZER}.lr': 0.02})) == (
        f'the learning rates in {path} follow from earlier validations (ReduceOnPlateau), so they cannot be those of other '
        'settings of optimizer or schedule; resume with the same ones, or start from its weights in another '
        f'--work-dir, without --resume (--cfg-options load_from={path})')
    assert runs.run(runs.settings(work_dir, resume=True, **plateau)) == 'done'
    assert runs.run(runs.settings(tmp_path / 'unbroken', **plateau)) == 'done'
    assert settings_of(runs.last(work_dir)) == settings_of(runs.last(tmp_path / 'unbroken'))


@pytest.mark.situation('Silently wrong', '`--resume` with a schedule that is already over',
                       before='nothing was trained, and it was called trained', now='one line')
def test_schedule_that_is_over(stopped, tmp_path):
    work_dir = stopped(tmp_path / 'run')
    config = runs.settings(work_dir, resume=True, **{'train_cfg.max_epochs': 1, 'param_scheduler': [dict(POLY, end=1)]})
    assert refused(config) == (
        f'{work_dir}/interrupted.pth was trained for 5 iterations, the config ends after 3; raise train_cfg.max_epochs or '
        'max_iters, or use the checkpoint as it is')


@pytest.mark.situation('Silently wrong', '`--resume` with more epochs but the same schedule (`train_cfg.max_epochs` alone)',
                       before='the added epochs were trained with learning rate 0, without a word',
                       now='one line that says so, and what to set')
@pytest.mark.parametrize(('scheduler', 'is_zero'), [
    (POLY, True), (dict(POLY, convert_to_iter_based=False), True), (dict(POLY, end=8), False),
    (dict(POLY, eta_min=1e-4), False),
    (dict(type='LinearLR', start_factor=1, end_factor=0, end=12, by_epoch=False), True),
    (dict(type='CosineAnnealingLR', end=12, by_epoch=False, eta_min_ratio=0), True),
    (dict(type='MultiStepLR', milestones=[3]), False)], ids=str)
def test_learning_rate_of_zero_before_the_end(stopped, tmp_path, scheduler, is_zero):
    work_dir = stopped(tmp_path / 'run')
    config = runs.settings(work_dir, resume=True, param_scheduler=[scheduler], **{'train_cfg.max_epochs': 8})
    if is_zero:
        assert refused(config) == (
            f'{work_dir}/interrupted.pth is of a training of 12 iterations: the learning rate is 0 after iteration 12, where '
            'its schedule ends, but training ends after 24; set end of the last param_scheduler to as many epochs or '
            'iterations as train_cfg has')
    else:
        assert runs.run(config) == 'done'


def test_a_schedule_that_was_to_end_early_is_resumed_with_a_warning(stopped, tmp_path):
    settings = dict(param_scheduler=[POLY], log_level='WARNING', **{'train_cfg.max_epochs': 8})
    assert runs.run(runs.settings(stopped(tmp_path / 'run', **settings), resume=True, **settings)) == 'done'
    said = 'the learning rate is 0 after iteration 12, where its schedule ends, but training ends after 24; '
    assert sum(path.read_text().count(said) for path in tmp_path.glob('run/*/*.log')) == 2


def test_other_kind_of_loop(tmp_path):
    loop = {'train_cfg': dict(by_epoch=False, max_iters=12, val_interval=6),
            'train_dataloader.sampler': dict(type='InfiniteSampler'), 'default_hooks.checkpoint.by_epoch': False}
    assert runs.run(runs.settings(tmp_path / 'run', **loop, **{'default_hooks.checkpoint.interval': 6})) == 'done'
    path = tmp_path / 'run/iter_12.pth'
    assert refused(runs.settings(tmp_path / 'run', resume=True)) == (
        f'{path} was trained with IterBasedTrainLoop, the config has EpochBasedTrainLoop, which needs an epoch to go on from; '
        f'resume with train_cfg as it was, or start from its weights in another '
        f'--work-dir, without --resume (--cfg-options load_from={path})')


def test_gradients_that_wait_for_a_step_of_another_size(stopped, tmp_path):
    work_dir = stopped(tmp_path / 'run', **{'optim_wrapper.accumulative_counts': 2})
    path = work_dir / 'interrupted.pth'
    assert refused(runs.settings(work_dir, resume=True, **{'optim_wrapper.accumulative_counts': 3})) == (
        f'{path} was written before a step was complete, with 2 passes a step, the config has 3 passes; resume with the former '
        f'until a step is complete, or start from its weights in another '
        f'--work-dir, without --resume (--cfg-options load_from={path})')


EMA = [dict(type='EMAHook', momentum=0.1)]


@pytest.mark.parametrize('with_ema', ['before', 'now'])
def test_averaging_is_switched_on_or_off(stopped, tmp_path, with_ema):
    """Where it was on, a checkpoint holds the average in the place of the weights that are trained."""
    work_dir = stopped(tmp_path / 'run', custom_hooks=EMA if with_ema == 'before' else [])
    assert runs.run(runs.settings(work_dir, resume=True, custom_hooks=EMA if with_ema == 'now' else [])) == 'done'
    assert runs.run(runs.settings(tmp_path / 'unbroken')) == 'done'
    resumed, unbroken = runs.last(work_dir), runs.last(tmp_path / 'unbroken')
    assert ('ema_state_dict' in resumed) == (with_ema == 'now')
    for key, weights in unbroken['state_dict'].items():
        trained = resumed['ema_state_dict'][f'module.{key}'] if with_ema == 'now' else resumed['state_dict'][key]
        assert torch.equal(trained, weights), key
