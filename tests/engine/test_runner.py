"""What is put into a config so that a run survives what ends it, and the seeds that it takes."""
import pytest
import runs
from mmengine.config import Config

from repvgg_seg.core.errors import UserError
from repvgg_seg.engine.runner import make_durable

OURS = [dict(type=f'repvgg_seg.{name}') for name in ('FiniteLossHook', 'StopHook', 'LiveLineHook')]


@pytest.mark.parametrize('given, hooks, checkpoint', [
    ({}, OURS, dict(type='repvgg_seg.CheckpointHook', interval=1)),
    (dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=5))), OURS,
     dict(type='repvgg_seg.CheckpointHook', interval=5)),
    (dict(default_hooks=dict(checkpoint=None)), OURS, None),
    (dict(default_hooks=dict(checkpoint=dict(type='OwnHook'))), OURS, dict(type='OwnHook')),
    (dict(custom_hooks=[dict(type='repvgg_seg.StopHook'), dict(type='EMAHook')]),
     [dict(type='repvgg_seg.StopHook'), dict(type='EMAHook'), OURS[0], OURS[2]],
     dict(type='repvgg_seg.CheckpointHook', interval=1))])
def test_hooks(given, hooks, checkpoint):
    config = Config(dict(train_cfg=dict(type='IterBasedTrainLoop', max_iters=3), **given))
    make_durable(config)
    assert config.custom_hooks == hooks and config.default_hooks.checkpoint == checkpoint


@pytest.mark.parametrize('loop', [dict(by_epoch=True), dict(type='EpochBasedTrainLoop')], ids=str)
def test_loop_of_epochs(loop):
    config = Config(dict(train_cfg=dict(loop, max_epochs=3)))
    make_durable(config)
    assert config.train_cfg == dict(type='repvgg_seg.EpochBasedTrainLoop', max_epochs=3)


@pytest.mark.situation('Tracebacks', '`--cfg-options randomness.seed=-1`, or another seed that NumPy does not take',
                       before='a traceback of NumPy', now='one line with the range')
@pytest.mark.parametrize('seed', [-1, 2**32, 1.5, True, '7'])
def test_a_seed_that_numpy_does_not_take(tmp_path, seed):
    with pytest.raises(UserError) as raised:
        runs.run(runs.settings(tmp_path, randomness=dict(seed=seed)))
    assert str(raised.value) == (f'randomness.seed is {seed!r}; expected a whole number from 0 to 4294967295, or None for a '
                                 'random one')
    assert not list(tmp_path.rglob('*.pth'))


@pytest.mark.parametrize('randomness', [dict(seed=None), dict(deterministic=False)], ids=str)
def test_a_random_seed(tmp_path, randomness):
    assert runs.run(runs.settings(tmp_path, randomness=randomness)) == 'done'
