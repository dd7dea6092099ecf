"""The types of a config's parts, in both styles."""
import pytest
from torch import nn

from repvgg_seg.core.config_types import type_name


@pytest.mark.parametrize(('part', 'expected'), [
    (dict(type='RepVGG', arch='A0'), 'RepVGG'), (dict(type='repvgg_seg.RepVGG'), 'RepVGG'),
    (dict(type='torch.nn.SyncBatchNorm'), 'SyncBatchNorm'), (dict(type=nn.SyncBatchNorm), 'SyncBatchNorm'), ({}, '')])
def test_type_name(part, expected):
    assert type_name(part) == expected
