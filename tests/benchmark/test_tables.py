"""Names in tables."""
import pytest

from repvgg_seg.benchmark.tables import shorten


@pytest.mark.parametrize(('name', 'expected'), [
    ('RepVGG-A0', 'RepVGG-A0'), ('ncnn:stock:RepVGG-A0', 'ncnn:stock:RepVGG-A0'),
    ('configs/pspnet_repvgg_b2_cityscapes.py', 'pspnet_repvgg_b2_cityscapes'), ('ncnn:work/pruned/config.py', 'ncnn:pruned')])
def test_short_names(name, expected):
    assert shorten(name) == expected
