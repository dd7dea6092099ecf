"""What is put into a config so that a run survives what ends it."""
import pytest
from mmengine.config import Config

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
