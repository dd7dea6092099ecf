"""What a segmentor is traced with."""
import sys
import warnings
from types import ModuleType

import pytest
import torch
from mmseg.models.decode_heads import psp_head
from mmseg.models.utils import resize

from repvgg_seg.deploy.graph import resize_without_warning


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
