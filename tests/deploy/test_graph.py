"""What a segmentor is traced with."""
import sys
import warnings
from types import ModuleType, SimpleNamespace

import pytest
import torch
from mmseg.models.decode_heads import psp_head
from mmseg.models.utils import resize
from torch import nn

from repvgg_seg.core.errors import UserError
from repvgg_seg.deploy.graph import check_dynamic, resize_without_warning


@pytest.fixture
def own_head(monkeypatch):
    """A module of a user's, which calls the function by another name."""
    module = ModuleType('own_head')
    module.enlarge = resize
    monkeypatch.setitem(sys.modules, 'own_head', module)
    monkeypatch.setitem(sys.modules, 'nothing', None)
    return module


def enlarge(function) -> torch.Tensor:
    """From a size, to a size, that the function warns of."""
    return function(torch.arange(12.).view(1, 1, 3, 4), size=(6, 6), mode='bilinear', align_corners=True)


def test_no_module_looks_whether_to_warn_while_a_model_is_traced(own_head):
    with pytest.warns(UserWarning, match='more aligned'):
        expected = enlarge(psp_head.resize)
    with pytest.raises(ZeroDivisionError), resize_without_warning():
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            for function in (psp_head.resize, own_head.enlarge):
                torch.testing.assert_close(enlarge(function), expected, rtol=0, atol=0)
        raise ZeroDivisionError
    assert psp_head.resize is own_head.enlarge is resize
    with pytest.warns(UserWarning, match='more aligned'):
        enlarge(own_head.enlarge)


@pytest.mark.parametrize(('sizes', 'refused'), [([], False), ([1], False), ([(1, 1)], False), ([1, 2], True), ([(2, 1)], True)])
def test_pools_whose_windows_depend_on_the_size(sizes, refused):
    head = nn.Sequential(*map(nn.AdaptiveAvgPool2d, sizes))
    segmentor = SimpleNamespace(decode_head=head, extract_feat=lambda images: images)
    if not refused:
        check_dynamic(segmentor, 3)
        return
    with pytest.raises(UserError, match='^Sequential pools adaptively, which can be exported for one size only; '):
        check_dynamic(segmentor, 3)
