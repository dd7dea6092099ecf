"""Whole models are loaded strictly; and where a config asks for pretrained weights."""
import pytest
from helpers import TINY_ARCH, assert_same_state, randomize, snapshot
from torch import nn

from repvgg_seg.core.errors import ArgumentTypeError, CheckpointError
from repvgg_seg.models import RepVGG
from repvgg_seg.models.layouts import LAYOUTS
from repvgg_seg.models.pretrained import differences, load_model, pretrained_config


def make_segmentor(num_classes=4, arch=TINY_ARCH, channels=48):
    head = nn.ModuleDict(dict(conv_seg=nn.Conv2d(channels, num_classes, 1)))
    return nn.ModuleDict(dict(backbone=RepVGG(arch), decode_head=head))


def test_load_model(save):
    source, target = randomize(make_segmentor()), make_segmentor()
    meta = dict(classes=('a', 'b'))
    assert load_model(target, save(dict(state_dict=source.state_dict(), meta=meta))) == meta
    assert_same_state(target, source.state_dict())
    assert load_model(target, save(source.state_dict())) == {}


def assert_refused(model, source, message):
    """The error has this message, in which FILE stands for the file, and nothing was loaded."""
    before = snapshot(model)
    with pytest.raises(CheckpointError) as raised:
        load_model(model, source)
    assert str(raised.value).replace(str(source), 'FILE') == message
    assert_same_state(model, before)


def refused(found: str, model: nn.Module, state: dict, remedy: str) -> str:
    """The message about weights of other names and shapes."""
    return f'checkpoint FILE does not fit the model: {found}tensors {differences(state, model.state_dict())}; {remedy}'


def test_load_model_refuses_other_classes(save):
    assert_refused(make_segmentor(), save(make_segmentor(num_classes=7).state_dict()),
                   'checkpoint FILE does not fit the model: it was trained for another number of classes; tensors 2 of another '
                   'shape (decode_head.conv_seg.weight (7, 48, 1, 1) instead of (4, 48, 1, 1), decode_head.conv_seg.bias (7,) '
                   'instead of (4,)); use the config it was trained with')


def test_load_model_refuses_a_wider_head(save):
    assert_refused(make_segmentor(), save(make_segmentor(channels=64).state_dict()),
                   'checkpoint FILE does not fit the model: tensors 1 of another shape (decode_head.conv_seg.weight '
                   '(4, 64, 1, 1) instead of (4, 48, 1, 1)); use the config it was trained with')


def test_load_model_refuses_another_arch(save):
    state = make_segmentor(arch='A0').state_dict()
    tiny = 'a RepVGG of (2, 2, 6, 1) blocks, (16, 24, 32, 48) channels, 2 groups'
    assert_refused(target := make_segmentor(), save(state), refused(
        f'it holds RepVGG-A0, the model is {tiny}; ', target, state, 'use the config it was trained with'))


def test_load_model_says_what_to_do_with_another_layout(save):
    state = {LAYOUTS['official'].from_own(key): value for key, value in RepVGG(TINY_ARCH).state_dict().items()}
    source, found = save(state), 'it is in the official layout; '
    assert_refused(model := make_segmentor(), source, refused(
        found, model, state, 'a backbone alone is taken by model.backbone.init_cfg.checkpoint, to train from it'))
    classifier = nn.ModuleDict(dict(backbone=RepVGG(TINY_ARCH), head=nn.ModuleDict(dict(fc=nn.Linear(48, 3)))))
    assert_refused(classifier, source, refused(found, classifier, state, 'convert it with repvgg-seg convert-weights'))


def test_load_model_says_what_to_do_with_fused_weights(save):
    source = make_segmentor()
    source['backbone'].switch_to_deploy()
    assert_refused(model := make_segmentor(), save(source.state_dict()), refused(
        'it is fused; ', model, source.state_dict(),
        'give the folder that repvgg-seg deploy wrote, or set model.backbone.deploy=True'))


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
    with pytest.raises(ArgumentTypeError) as raised:
        pretrained_config(init_cfg)
    found = init_cfg[0] if isinstance(init_cfg, list) else init_cfg
    assert str(raised.value) == (f'init_cfg of type Pretrained needs a checkpoint, got {found}; for random weights use '
                                 'init_cfg=None')
