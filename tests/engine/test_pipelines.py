"""Test pipelines are changed in what is asked for and in nothing else."""
import re

import pytest

from repvgg_seg.core.errors import UserError
from repvgg_seg.engine.pipelines import set_size, without_normalize

LOAD, PACK = dict(type='repvgg_seg.LoadImage'), dict(type='PackInputs')


@pytest.mark.parametrize(('steps', 'size', 'expected'), [
    ([dict(type='ResizeEdge', scale=256, edge='short'), dict(type='CenterCrop', crop_size=224)], 320,
     [dict(type='ResizeEdge', scale=366, edge='short'), dict(type='CenterCrop', crop_size=320)]),
    ([dict(type='Resize', scale=64)], 128, [dict(type='Resize', scale=128)]),
], ids=['crop', 'resize'])
def test_set_size(steps, size, expected):
    pipeline = [LOAD, *steps, PACK]
    set_size(pipeline, size)
    assert pipeline == [LOAD, *expected, PACK]


@pytest.mark.parametrize('steps', [[], [dict(type='Resize', scale=(64, 32))]], ids=['none', 'two numbers'])
def test_size_needs_a_step_to_change(steps):
    with pytest.raises(UserError, match='--size needs a test pipeline with Resize, ResizeEdge, CenterCrop to a single number'):
        set_size([LOAD, *steps, PACK], 64)


NORMALIZE, LABELS, PAD = dict(type='Normalize', mean=[1], std=[2], to_rgb=False), dict(type='LoadAnnotations'), dict(type='Pad')


@pytest.mark.parametrize(('steps', 'left', 'found'), [
    ([LOAD, PAD, PACK], [LOAD, PAD, PACK], []),
    ([LOAD, PAD, NORMALIZE, LABELS, PACK], [LOAD, PAD, LABELS, PACK], [NORMALIZE]),
    ([LOAD, NORMALIZE, NORMALIZE, PACK], [LOAD, PACK], [NORMALIZE, NORMALIZE]),
])
def test_normalize_is_split_off(steps, left, found):
    assert without_normalize(steps) == (left, found)


def test_normalize_before_other_steps_is_refused():
    message = ('Normalize is followed by Pad in the test pipeline, but exported files normalize after everything else; move '
               'Normalize behind them, or use mean and std of model.data_preprocessor')
    with pytest.raises(UserError, match=f'{re.escape(message)}$'):
        without_normalize([LOAD, NORMALIZE, PAD, PACK])
