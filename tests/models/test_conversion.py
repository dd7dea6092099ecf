"""Checkpoints are converted whole or not at all, there and back without a changed byte."""
import pytest
import timm
import torch
from helpers import TINY_ARCH, TINY_SE_ARCH, assert_relatively_close, randomize
from mmpretrain.models import RepVGG as MMPretrainRepVGG
from torch import nn

from repvgg_seg.core.errors import CheckpointError, UserError
from repvgg_seg.core.reading import read_checkpoint
from repvgg_seg.models import RepVGG
from repvgg_seg.models.conversion import convert_checkpoint
from repvgg_seg.models.layouts import LAYOUTS
from repvgg_seg.models.pretrained import load_model, load_pretrained

NUM_CLASSES = 7


class Classifier(nn.Module):
    """The names of MMPretrain's ImageClassifier."""

    def __init__(self, arch, deploy=False):
        super().__init__()
        self.backbone = randomize(RepVGG(arch, deploy=deploy))
        self.head = nn.ModuleDict(dict(fc=nn.Linear(self.backbone.out_channels[0], NUM_CLASSES)))


def official(state: dict) -> dict:
    theirs = LAYOUTS['official']
    return {'linear.' + key[len('head.fc.'):] if key.startswith('head.') else theirs.from_own(key[len('backbone.'):]): value
            for key, value in state.items()}


def assert_identical(one: dict, other: dict) -> None:
    assert list(one) == list(other)
    for key, value in one.items():
        assert value.dtype == other[key].dtype and value.numpy().tobytes() == other[key].numpy().tobytes(), key


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16], ids=str)
@pytest.mark.parametrize('deploy', [False, True], ids=['training', 'fused'])
@pytest.mark.parametrize('arch', [TINY_ARCH, TINY_SE_ARCH], ids=['groups', 'se'])
def test_own_to_official_and_back(arch, deploy, dtype, save, tmp_path):
    state = Classifier(arch, deploy).to(dtype).state_dict()
    own, there, back, again = (tmp_path / f'{name}.pth' for name in ('own', 'there', 'back', 'again'))
    torch.save(dict(state_dict=state), own)
    convert_checkpoint(str(own), there, 'official')
    assert_identical(read_checkpoint(there), official(state))
    convert_checkpoint(str(there), back)
    assert_identical(read_checkpoint(back)['state_dict'], state)
    convert_checkpoint(str(back), again, 'official')
    assert again.read_bytes() == there.read_bytes()


@pytest.mark.parametrize('deploy', [False, True], ids=['training', 'fused'])
def test_official_names(deploy, save, tmp_path):
    convert_checkpoint(str(save(Classifier(TINY_SE_ARCH, deploy).state_dict())), tmp_path / 'official.pth', 'official')
    literal = {'stage0.rbr_reparam.weight', 'stage4.0.rbr_reparam.bias'} if deploy else {
        'stage0.rbr_dense.conv.weight', 'stage1.0.rbr_dense.bn.running_mean', 'stage2.1.rbr_identity.weight',
        'stage4.0.rbr_1x1.conv.weight', 'stage3.1.rbr_1x1.bn.num_batches_tracked'}
    assert literal | {'stage0.se.down.weight', 'stage4.0.se.up.bias', 'linear.weight', 'linear.bias'} <= set(
        read_checkpoint(tmp_path / 'official.pth'))


@pytest.mark.whole
@torch.no_grad()
@pytest.mark.parametrize('peer', ['timm', 'MMPretrain'])
def test_peers_features_and_logits(peer, save, tmp_path):
    image = torch.randn(1, 3, 64, 64).double()
    if peer == 'timm':
        model = randomize(timm.create_model('repvgg_a0', num_classes=NUM_CLASSES)).double().eval()
        features, state = model.forward_features(image), model.state_dict()
        weight, bias = model.head.fc.weight, model.head.fc.bias
    else:
        model = randomize(MMPretrainRepVGG('A0', out_indices=(3, ))).double()
        model.eval()
        features, = model(image)
        weight, bias = torch.randn(NUM_CLASSES, 1280).double(), torch.randn(NUM_CLASSES).double()
        state = {f'backbone.{key}': value for key, value in model.state_dict().items()}
        state = dict(state_dict={**state, 'head.fc.weight': weight, 'head.fc.bias': bias})
    lines = convert_checkpoint(str(save(state)), tmp_path / 'own.pth')
    assert lines == [f'RepVGG-A0 (training form, 7 classes): 351 tensors from the {peer} to the own layout']
    target = Classifier('A0').double().eval()
    load_model(target, tmp_path / 'own.pth')
    assert_relatively_close(target.backbone(image)[0], features, 1e-9)
    assert torch.equal(target.head.fc.weight, weight) and torch.equal(target.head.fc.bias, bias)


def test_backbone_without_classifier(save, tmp_path):
    source = randomize(RepVGG(TINY_ARCH, in_channels=4))
    lines = convert_checkpoint(str(save(source.state_dict())), tmp_path / 'own.pth')
    assert 'without a classifier' in lines[-1]
    target = RepVGG(TINY_ARCH, in_channels=4)
    load_pretrained(target, tmp_path / 'own.pth')
    assert_identical(target.state_dict(), source.state_dict())


def test_heads_of_a_segmentor_are_left_out_and_named(save, tmp_path):
    state = {f'backbone.{key}': value for key, value in RepVGG(TINY_ARCH).state_dict().items()}
    state['decode_head.conv_seg.bias'] = torch.zeros(3)
    lines = convert_checkpoint(str(save(state)), tmp_path / 'official.pth', 'official')
    assert lines[0] == 'left out 1 tensors that are not part of a classifier: decode_head.conv_seg.bias'
    assert not [key for key in read_checkpoint(tmp_path / 'official.pth') if 'decode_head' in key]


def test_missing_counters_are_added(save, tmp_path):
    state = {key: value for key, value in RepVGG(TINY_ARCH).state_dict().items() if 'num_batches_tracked' not in key}
    lines = convert_checkpoint(str(save(state)), tmp_path / 'own.pth')
    assert lines[0].startswith('added 31 counters num_batches_tracked')
    load_pretrained(RepVGG(TINY_ARCH), tmp_path / 'own.pth')


def drop(name):
    return lambda state: state.pop(name)


def add(name, value):
    return lambda state: state.update({name: value})


INCOMPLETE = ('checkpoint {} is not complete: it holds a RepVGG of (2, 2, 6, 1) blocks, (16, 24, 32, 48) channels, 2 groups, '
              'tensors {}')
UNUSED = '1 not used ({}); to leave out what is not used, say with --prefix where the backbone is'


@pytest.mark.parametrize(('change', 'message'), [
    (drop('stage3.2.rbr_1x1.conv.weight'), '1 missing (stages.2.2.conv.branch_1x1.conv.weight)'),
    (drop('stage2.1.rbr_identity.num_batches_tracked'), '1 missing (stages.1.1.conv.branch_identity.num_batches_tracked)'),
    (drop('linear.bias'), '1 missing (linear.bias)'),
    (add('stage1_aux.weight', torch.zeros(1)), '1 not used (stage1_aux.weight)'),
    (add('linear.scale', torch.zeros(1)), '1 not used (linear.scale)'),
    (add('linear.weight', torch.zeros(NUM_CLASSES, 5)), '1 of another shape (linear.weight (7, 5) instead of (7, 48))'),
])
def test_strict(change, message, save, tmp_path):
    state = official(Classifier(TINY_ARCH).state_dict())
    change(state)
    assert_refused(save(state), tmp_path / 'own.pth', INCOMPLETE.format('FILE', message))


def test_no_whole_backbone(save, tmp_path):
    whole = official(Classifier(TINY_ARCH).state_dict())
    state = {key: value for key, value in whole.items() if not key.startswith('stage4')}
    assert_refused(save(state), tmp_path / 'own.pth',
                   'checkpoint FILE is not a whole RepVGG: it has no block in one of the four stages')
    state = {key: value for key, value in whole.items() if not key.startswith('stage')}
    assert_refused(save(state), tmp_path / 'own.pth', 'checkpoint FILE is not a RepVGG in the layout of own, official, '
                   'MMPretrain, timm; its keys are linear.weight, linear.bias')


def assert_refused(source, target, message):
    """The error has this message, in which FILE stands for the file, and nothing was written."""
    with pytest.raises(CheckpointError) as raised:
        convert_checkpoint(str(source), target)
    assert str(raised.value).replace(str(source), 'FILE') == message
    assert not target.exists()


def test_what_is_neither_backbone_nor_head_is_an_error(save, tmp_path):
    state = Classifier(TINY_ARCH).state_dict() | {'teacher.weight': torch.zeros(1)}
    assert_refused(save(state), tmp_path / 'own.pth', INCOMPLETE.format('FILE', UNUSED.format('teacher.weight')))


@pytest.mark.situation("Other people's checkpoints", 'tools/convert_weights.py on "backbone." with the official "linear."',
                       before='refused: "not used (linear.weight, linear.bias)"', now='converted, classifier included')
@pytest.mark.parametrize('wrap', [
    lambda state: {key if key.startswith('linear.') else f'backbone.{key}': value for key, value in state.items()},
    lambda state: {f'model.{key}': value for key, value in state.items()},
    lambda state: {f'model.{key if key.startswith("linear.") else f"encoder.{key}"}': value for key, value in state.items()},
], ids=['backbone', 'model', 'model.encoder'])
def test_wrapped_classifier_of_another_layout(wrap, save, tmp_path):
    state = Classifier(TINY_ARCH).state_dict()
    convert_checkpoint(str(save(wrap(official(state)))), tmp_path / 'own.pth')
    assert_identical(read_checkpoint(tmp_path / 'own.pth')['state_dict'], state)


def test_target_must_be_another_file(save, tmp_path):
    source = save(RepVGG(TINY_ARCH).state_dict())
    before = source.read_bytes()
    with pytest.raises(UserError) as raised:
        convert_checkpoint(str(source), source)
    assert str(raised.value) == f'{source} is read, but {source} would be written over it; write to another place'
    assert source.read_bytes() == before


def test_shapes_of_no_repvgg(save, tmp_path):
    source = save({key: value[:1] if value.dim() else value for key, value in RepVGG(TINY_ARCH).state_dict().items()})
    with pytest.raises(CheckpointError) as raised:
        convert_checkpoint(str(source), tmp_path / 'own.pth')
    assert str(raised.value) == (f'checkpoint {source} has tensors of other shapes than those of any RepVGG (arch groups must '
                                 'be a positive integer that divides the widths (1, 1, 1, 1, 1), got 0)')
    assert not (tmp_path / 'own.pth').exists()


def test_an_interrupted_write_leaves_what_was_there(save, tmp_path, monkeypatch):
    from pathlib import Path
    source, target = save(RepVGG(TINY_ARCH).state_dict()), tmp_path / 'own.pth'
    target.write_bytes(b'before')
    monkeypatch.setattr(Path, 'replace', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        convert_checkpoint(str(source), target)
    assert target.read_bytes() == b'before' and len(list(tmp_path.iterdir())) == 2
