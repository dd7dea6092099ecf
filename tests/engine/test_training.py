"""The images a step, and the learning rate for them, on any number of processes."""
import pytest
import runs
from mmengine.config import Config

from repvgg_seg.core.errors import InstallationError, UserError
from repvgg_seg.engine import resolved_config, training


def make_config(batch_size, accumulated) -> Config:
    return Config(dict(train_dataloader=dict(batch_size=batch_size), auto_scale_lr=dict(enable=True, base_batch_size=256),
                       optim_wrapper=dict(accumulative_counts=accumulated)))


@pytest.mark.parametrize(('processes', 'batch_size', 'accumulated', 'expected', 'rate'), [
    (1, None, 1, 256, 1), (8, None, 1, 32, 1), (3, None, 1, 85, 255 / 256), (2, None, 4, 32, 1), (1000, None, 1, 1, 1000 / 256),
    (4, 16, 1, 16, 1 / 4), (4, 16, 8, 16, 2)])
def test_fit_batch(processes, batch_size, accumulated, expected, rate, monkeypatch):
    monkeypatch.setattr(resolved_config, 'get_world_size', lambda: processes)
    config = make_config(batch_size, accumulated)
    resolved_config.fit_batch(config)
    base = resolved_config.base_batch(config)
    assert config.train_dataloader.batch_size == expected
    assert processes * expected * resolved_config.passes_of(config) / base == pytest.approx(rate)
    # The config is dumped into the work dir, where it must say the same when it is used again.
    assert config.auto_scale_lr.base_batch_size == 256
    resolved_config.fit_batch(config)
    assert resolved_config.base_batch(config) == 256 and config.train_dataloader.batch_size == expected


@pytest.mark.parametrize('scale', [None, dict(enable=True)], ids=['none', 'without a base'])
def test_without_a_batch_to_share_out(scale):
    config = Config(dict(train_dataloader=dict(batch_size=3), optim_wrapper=dict(), auto_scale_lr=scale))
    resolved_config.fit_batch(config)
    assert resolved_config.base_batch(config) is None and config.train_dataloader.batch_size == 3
    config.train_dataloader.batch_size = None
    with pytest.raises(UserError, match='has neither train_dataloader.batch_size nor auto_scale_lr.base_batch_size'):
        resolved_config.fit_batch(config)


def test_changes_are_told():
    before = Config(dict(sync_bn=None, train_dataloader=dict(batch_size=None, num_workers=9), custom_hooks=[],
                         loops=[dict(type='A')]))
    after = Config(dict(train_dataloader=dict(batch_size=16, num_workers=9), custom_hooks=[dict(type='StopHook')],
                        loops=[dict(type='B')], launcher='none'))
    assert resolved_config.changes(before, after) == [
        'train_dataloader.batch_size: None -> 16', "custom_hooks: [] -> [{'type': 'StopHook'}]", 'loops.0.type: A -> B',
        'launcher: None -> none']
    assert resolved_config.changes(before, before) == []


def test_given_config_stays_as_it_is(tmp_path):
    given = runs.settings(tmp_path, **{'train_dataloader.num_workers': 0, 'train_dataloader.batch_size': None,
                                       'auto_scale_lr': dict(base_batch_size=4)})
    text = given.pretty_text
    resolved, warnings = resolved_config.resolve_training(given, lambda config: config.merge_from_dict({'model.kind': 'own'}))
    assert given.pretty_text == text and warnings == []
    told = set(resolved_config.changes(given, resolved))
    assert {'model.kind: None -> own', 'train_dataloader.batch_size: None -> 4',
            'train_dataloader.persistent_workers: None -> False',
            'default_hooks.checkpoint.type: CheckpointHook -> repvgg_seg.CheckpointHook'} < told


@pytest.mark.parametrize(('before', 'now'), [
    (dict(images=256, batch=256, iterations=1), dict(images=256, batch=255, iterations=1)),
    (dict(images=2975, batch=16, iterations=185), dict(images=2975, batch=16, iterations=186))], ids=['batch', 'iterations'])
def test_rounded_shares_are_the_same_data(before, now):
    training.check_resumption('a.pth', dict(data=before), now)


@pytest.mark.parametrize('now', [
    dict(images=10, batch=3, iterations=5), dict(images=11, batch=2, iterations=5), dict(images=10, batch=2, iterations=3),
], ids=str)
def test_other_data_are_refused_at_any_point(now):
    found = r'^a\.pth was trained with 5 iterations per epoch \(10 images, 2 per iteration\), resuming'
    with pytest.raises(UserError, match=found):
        training.check_resumption('a.pth', dict(epoch=0, iter=7, data=dict(images=10, batch=2, iterations=5)), now)


@pytest.mark.parametrize('backends', [
    [dict(type='LocalVisBackend'), dict(type='AimVisBackend')], dict(type='mmengine.AimVisBackend')], ids=['list', 'one'])
def test_a_logger_that_is_not_installed(tmp_path, monkeypatch, backends):
    monkeypatch.setattr(training, 'find_spec', {'aim': None}.get)
    with pytest.raises(InstallationError) as error:
        runs.run(runs.settings(tmp_path / 'run', visualizer=dict(type='Visualizer', vis_backends=backends)))
    assert str(error.value) == ('aim is not installed, but AimVisBackend in visualizer.vis_backends needs it; run: pip install '
                                'aim')
    assert [path.name for path in (tmp_path / 'run').iterdir()] == ['.training']
