"""Whole models are loaded strictly; and where a config asks for pretrained weights."""
import pytest
from helpers import TINY_ARCH, assert_same_state, randomize, snapshot
from torch import nn

from repvgg_seg.checkpoints import load_model, pretrained_config
from repvgg_seg.errors import ArgumentTypeError, CheckpointError
from repvgg_seg.models import RepVGG


def make_segmentor(num_classes=4, arch=TINY_ARCH):
    head = nn.ModuleDict(dict(conv_seg=nn.Conv2d(48, num_classes, 1)))
    return nn.ModuleDict(dict(backbone=RepVGG(arch), decode_head=head))


def test_load_model(save):
    source, target = randomize(make_segmentor()), make_segmentor()
    meta = dict(classes=('a', 'b'))
    assert load_model(target, save(dict(state_dict=source.state_dict(), meta=meta))) == meta
    assert_same_state(target, source.state_dict())
    assert load_model(target, save(source.state_dict())) == {}


@pytest.mark.parametrize('found, message', [
    (dict(num_classes=7), r'for another number of classes; .*2 of another shape \(decode_head\.conv_seg\.weight'),
    (dict(arch='A0'), r'it holds RepVGG-A0, the model is a RepVGG of \(2, 2, 6, 1\) blocks'),
], ids=['classes', 'arch'])
def test_load_model_refuses_another(found, message, save):
    target = make_segmentor()
    before = snapshot(target)
    with pytest.raises(CheckpointError, match=message):
        load_model(target, save(make_segmentor(**found).state_dict()))
    assert_same_state(target, before)


def test_load_model_says_what_to_do_with_another_layout(save):
    from repvgg_seg.layouts import LAYOUTS
    state = {LAYOUTS['official'].from_own(key): value for key, value in RepVGG(TINY_ARCH).state_dict().items()}
    source = save(state)
    with pytest.raises(CheckpointError, match=r'it is in the official layout; .*; a backbone alone is taken by \S+init_cfg'):
        load_model(make_segmentor(), source)
    classifier = nn.ModuleDict(dict(backbone=RepVGG(TINY_ARCH), head=nn.ModuleDict(dict(fc=nn.Linear(48, 3)))))
    with pytest.raises(CheckpointError, match=r'it is in the official layout; .*; convert it with tools/convert_weights.py'):
        load_model(classifier, source)


def test_load_model_says_what_to_do_with_fused_weights(save):
    source = make_segmentor()
    source['backbone'].switch_to_deploy()
    with pytest.raises(CheckpointError, match=r'it is fused; .*; give the folder .* or set model.backbone.deploy=True'):
        load_model(make_segmentor(), save(source.state_dict()))


@pytest.mark.parametrize('init_cfg, expected', [
    (None, None), (dict(type='Kaiming', layer='Conv2d'), None), ([], None),
    (dict(type='Pretrained', checkpoint='a'), 'a'),
    ([dict(type='Constant'), dict(type='Pretrained', checkpoint='b')], 'b'),
], ids=str)
def test_pretrained_config(init_cfg, expected):
    found = pretrained_config(init_cfg)
    assert (found and found['checkpoint']) == expected


@pytest.mark.parametrize('init_cfg', [dict(type='Pretrained'), [dict(type='Pretrained', checkpoint=None)]], ids=str)
def test_pretrained_config_without_checkpoint(init_cfg):
    with pytest.raises(ArgumentTypeError, match='needs a checkpoint.*init_cfg=None'):
        pretrained_config(init_cfg)
