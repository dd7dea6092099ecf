"""Weights are loaded whole or not at all, and files that carry code are refused."""
import os
import shutil
import urllib.error
from pathlib import Path

import pytest
import torch
from helpers import TINY_ARCH, TINY_SE_ARCH, assert_same_state, randomize, snapshot

from repvgg_seg.core.errors import CheckpointError
from repvgg_seg.core.reading import read_checkpoint
from repvgg_seg.core.run_checkpoints import find_checkpoint
from repvgg_seg.models import RepVGG
from repvgg_seg.models.pretrained import load_pretrained

KEY = 'stages.2.1.conv.branch_identity.weight'
NO_WEIGHTS = ('give a file with --cfg-options model.backbone.init_cfg.checkpoint=PATH, or train from scratch with '
              'model.backbone.init_cfg=None')
URL = 'https://example.invalid/weights/repvgg.pth'


@pytest.fixture
def source():
    return randomize(RepVGG(TINY_ARCH))


@pytest.fixture
def target():
    return RepVGG(TINY_ARCH)


def with_prefix(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def assert_refused(backbone, source, message, prefix=None, key=None):
    """The error has this message, in which FILE stands for the file, is one line, and nothing was loaded."""
    before = snapshot(backbone)
    with pytest.raises(CheckpointError) as raised:
        load_pretrained(backbone, source, prefix, key)
    assert str(raised.value).replace(str(source), 'FILE') == message
    assert_same_state(backbone, before)


@pytest.mark.parametrize('wrap', [
    lambda state: state, lambda state: dict(state_dict=state, meta={}), lambda state: dict(model=state, epoch=3),
    lambda state: with_prefix('module.', state), lambda state: dict(state_dict=with_prefix('module.backbone.', state)),
    lambda state: dict(state_dict=with_prefix('backbone.', state)),
    lambda state: {**state, 'head.fc.weight': torch.ones(2, 3), 'decode_head.conv_seg.bias': torch.ones(2)},
    lambda state: {**with_prefix('backbone.', state), 'decode_head.conv_seg.weight': torch.ones(2, 3)},
], ids=['bare', 'state_dict', 'model', 'module', 'module and backbone', 'backbone', 'head beside', 'segmentor'])
@pytest.mark.parametrize('deploy', [False, True])
def test_wrappings(wrap, deploy, save):
    source, target = randomize(RepVGG(TINY_ARCH, deploy=deploy)), RepVGG(TINY_ARCH, 'fast', deploy=deploy)
    load_pretrained(target, save(wrap(source.state_dict())))
    assert_same_state(target, source.state_dict())


@pytest.mark.parametrize('prefix', ['teacher.backbone', 'teacher.backbone.'])
def test_explicit_prefix(prefix, source, target, save):
    state = {**with_prefix('teacher.backbone.', source.state_dict()),
             **with_prefix('backbone.', RepVGG(TINY_ARCH).state_dict())}
    load_pretrained(target, str(save(state)), prefix)
    assert_same_state(target, source.state_dict())


def test_init_weights_loads(source, save):
    target = RepVGG(TINY_ARCH, 'full', init_cfg=dict(type='Pretrained', checkpoint=str(save(source.state_dict()))))
    target.init_weights()
    assert_same_state(target, source.state_dict())


def test_checkpoint_without_batch_counters(source, target, save):
    state = {key: value for key, value in source.state_dict().items() if not key.endswith('num_batches_tracked')}
    load_pretrained(target, save(state))
    assert_same_state(target, source.state_dict())


def test_first_source_that_exists_is_taken(source, target, save, tmp_path):
    empty = tmp_path / 'empty'
    empty.mkdir()
    later = save(RepVGG(TINY_ARCH).state_dict(), 'later.pth')
    load_pretrained(target, [tmp_path / 'absent.pth', str(empty), save(source.state_dict()), later])
    assert_same_state(target, source.state_dict())


def test_folder_stands_for_its_best_else_last_checkpoint(source, target, save, tmp_path):
    assert find_checkpoint(tmp_path) is None
    for age, name in enumerate(['epoch_3.pth', 'best_mIoU_epoch_2.pth', 'best_mIoU_epoch_1.pth', 'epoch_2.pth']):
        state = source.state_dict() if name == 'best_mIoU_epoch_2.pth' else RepVGG(TINY_ARCH).state_dict()
        os.utime(save(state, name), (1e9 - age, 1e9 - age))
    assert find_checkpoint(tmp_path).name == 'best_mIoU_epoch_2.pth'
    load_pretrained(target, tmp_path)
    assert_same_state(target, source.state_dict())
    for best in tmp_path.glob('best_*'):
        best.unlink()
    assert find_checkpoint(tmp_path).name == 'epoch_3.pth'


@pytest.mark.parametrize('names', [['absent.pth'], ['absent.pth', 'gone.pth'], ['~nobody-here/a.pth'], ['a' * 300 + '.pth']],
                         ids=['one', 'two', 'user', 'long name'])
def test_missing_file(names, target, tmp_path):
    sources = [name if name.startswith('~') else str(tmp_path / name) for name in names]
    absent = '; '.join(f'{source} does not exist' for source in sources)
    assert_refused(target, sources, f'no pretrained weights: {absent}; {NO_WEIGHTS}')


@pytest.mark.parametrize('content, kind', [([torch.ones(2)], 'list'), (torch.ones(2), 'Tensor'), (3, 'int')])
def test_not_a_dict(content, kind, target, save):
    assert_refused(target, save(content), f'checkpoint FILE holds a {kind}, expected a dict')


@pytest.mark.parametrize('content, message', [
    ({}, 'holds no weights; its keys are none'),
    (dict(state_dict={}, meta={}), 'holds no weights; its keys are state_dict, meta'),
    (dict(epoch=3), 'holds no weights; its keys are epoch'), ({0: torch.ones(2)}, 'holds no weights; its keys are 0'),
    ({'conv1.weight': torch.ones(2, 3, 7, 7)},
     'is not a RepVGG in the layout of own, official, MMPretrain, timm; its keys are conv1.weight'),
], ids=['empty', 'empty state_dict', 'no tensor', 'number as key', 'ResNet'])
def test_not_a_repvgg(content, message, target, save):
    assert_refused(target, save(content), f'checkpoint FILE {message}')


TINY = 'a RepVGG of (2, 2, 6, 1) blocks, (16, 24, 32, 48) channels, 2 groups'


@pytest.mark.parametrize('found, wanted', [('A0', 'A1'), ('A1', 'B0'), ('A0', TINY_ARCH)], ids=str)
def test_other_arch_is_told_by_name(found, wanted, save):
    expected = TINY if wanted is TINY_ARCH else f'RepVGG-{wanted}'
    with torch.device('meta'):  # Nothing is loaded, and initializing takes longest.
        backbone = RepVGG(wanted)
    with pytest.raises(CheckpointError) as raised:
        load_pretrained(backbone, path := save(RepVGG(found).state_dict()))
    assert str(raised.value) == (f'checkpoint {path} holds RepVGG-{found}, but the backbone is {expected}; choose the '
                                 'checkpoint or the arch to fit')


@pytest.mark.parametrize('groups', [1, 4])
def test_other_groups_are_told(groups, source, save):
    other = TINY.replace('2 groups', f'{groups} groups')
    assert_refused(RepVGG(dict(TINY_ARCH, groups=groups)), save(source.state_dict()),
                   f'checkpoint FILE holds {TINY}, but the backbone is {other}; choose the checkpoint or the arch to fit')


def test_squeeze_and_excitation_too_much_or_too_little(save):
    plain = dict(TINY_SE_ARCH, use_se=False)
    names = ('stem.se.reduce.weight, stem.se.reduce.bias, stem.se.expand.weight, stem.se.expand.bias, '
             'stages.0.0.se.reduce.weight and 35 more')
    for found, wanted, what in ((TINY_SE_ARCH, plain, 'not used'), (plain, TINY_SE_ARCH, 'missing')):
        assert_refused(RepVGG(wanted), save(RepVGG(found).state_dict()),
                       f'checkpoint FILE does not fit the model: tensors 40 {what} ({names}); use the config it was trained '
                       'with')


def test_form_must_fit(source, target, save):
    assert_refused(RepVGG(TINY_ARCH, deploy=True), save(source.state_dict()),
                   'checkpoint FILE is in training form, but the backbone has deploy=True; build it with deploy=False, load, '
                   'then call switch_to_deploy()')
    assert_refused(target, save(source.switch_to_deploy().state_dict()),
                   'checkpoint FILE holds fused weights, which cannot be trained further; use the checkpoint from before '
                   'fusing')


@pytest.mark.parametrize('change, message', [
    (lambda state: state.pop(KEY), f'1 missing ({KEY})'),
    (lambda state: state.update(extra=torch.ones(1)), '1 not used (extra)'),
    (lambda state: state.update({'stem.conv.scale': torch.ones(1)}), '1 not used (stem.conv.scale)'),
    (lambda state: state.update({KEY: torch.ones(3)}), f'1 of another shape ({KEY} (3,) instead of (32,))'),
    (lambda state: state.update({'stem.conv.branch_3x3.conv.weight': torch.ones(16, 1, 3, 3)}),
     '1 of another shape (stem.conv.branch_3x3.conv.weight (16, 1, 3, 3) instead of (16, 3, 3, 3))'),
], ids=['missing', 'extra', 'extra in the stem', 'shape', 'gray images'])
@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_any_difference_is_refused(change, message, prefix, source, target, save):
    state = source.state_dict()
    change(state)
    assert_refused(target, save(with_prefix(prefix, state)),
                   f'checkpoint FILE does not fit the model: tensors {message}; use the config it was trained with')


UNUSUAL = ("checkpoint FILE has no weights under a usual key, but tensors under '{}'; say which, as the key of load_pretrained "
           'or of init_cfg, or with repvgg-seg convert-weights --key')


@pytest.mark.situation("Other people's checkpoints", 'weights under a key that nobody else uses',
                       before='"holds no weights"', now='the key is named, with the way to give it')
@pytest.mark.parametrize('key, wrap', [
    ('teacher', lambda state: dict(teacher=state, epoch=3)),
    ('state', lambda state: dict(state=dict(model=dict(state_dict=state)))),
], ids=['teacher', 'nested'])
def test_unusual_key(key, wrap, source, target, save):
    path = save(wrap(source.state_dict()))
    assert_refused(target, path, UNUSUAL.format(key))
    load_pretrained(target, path, key=key)
    assert_same_state(target, source.state_dict())


def test_a_single_tensor_under_an_unusual_key(target, save):
    path = save(dict(teacher=dict(weight=torch.ones(2)), epoch=3))
    assert_refused(target, path, UNUSUAL.format('teacher'))


def test_two_backbones_need_a_prefix(source, target, save):
    states = dict(student=target.state_dict(), teacher=source.state_dict())
    path = save({f'{name}.{key}': value for name, state in states.items() for key, value in state.items()})
    assert_refused(target, path, "checkpoint FILE holds more than one RepVGG; choose one by prefix: 'student.', 'teacher.'")
    load_pretrained(target, path, prefix='teacher.')
    assert_same_state(target, source.state_dict())


@pytest.mark.situation("Other people's checkpoints", 'weights of a teacher, or averaged ones, beside those of the model',
                       before='passed over without a word', now='both are named in the log, with the way to take the others')
@pytest.mark.parametrize('wrap, where, others', [
    (lambda state: dict(model=state, teacher=state), "under 'model'", "'teacher'"),
    (lambda state: dict(state_dict=state, swa_model=dict(model=with_prefix('module.', state)), ema=dict(shadow=state)),
     "under 'state_dict'", "'swa_model', 'ema'"),
    (lambda state: dict(net=with_prefix('model.', state), shadow=state), "under 'net'", "'shadow'"),
    (lambda state: {**state, 'teacher': state}, 'at the top', "'teacher'"),
    (lambda state: dict(model=state, ema=dict(decay=0.9), head={'fc.weight': torch.ones(2, 64)}, optimizer=dict(
        state={name: dict(exp_avg=value, exp_avg_sq=value) for name, value in state.items()})), None, None),
], ids=['teacher', 'nested', 'prefix', 'bare', 'none'])
def test_a_second_set_of_weights_is_named(wrap, where, others, source, target, save, monkeypatch):
    lines = []
    monkeypatch.setattr('repvgg_seg.models.weights.print_log', lambda line, **_: lines.append(line))
    path = save(wrap(source.state_dict()))
    load_pretrained(target, path)
    assert lines == ([] if where is None else [
        f'Of {path} the weights {where} are taken, not those under {others}; to take others, give load_pretrained a key, or '
        'init_cfg, or repvgg-seg convert-weights --key'])


VARIANCE = 'stem.conv.branch_3x3.norm.running_var'


@pytest.mark.situation("Other people's checkpoints", 'variances below 0, or float64 weights that float32 cannot hold',
                       before='loaded; the model gave NaN', now='one line that names the tensors')
@pytest.mark.parametrize('values, message', [
    (torch.full((16, ), -1.0), f'variances below 0: {VARIANCE}; it is damaged: take another checkpoint'),
    (torch.full((16, ), 1e300, dtype=torch.float64), f'not finite (NaN or infinite): {VARIANCE}; its training diverged: take a '
     'checkpoint from before that'),
], ids=['negative', 'too large'])
def test_values_that_no_model_computes_with(values, message, source, target, save):
    assert_refused(target, save({**source.state_dict(), VARIANCE: values}),
                   f'checkpoint FILE holds 1 tensors that are {message}')


def test_shapes_of_no_repvgg(source, target, save):
    state = {key: value[:1] if value.dim() else value for key, value in source.state_dict().items()}
    assert_refused(target, save(state), f'checkpoint FILE holds tensors of other shapes than those of any RepVGG, but the '
                   f'backbone is {TINY}; choose the checkpoint or the arch to fit')


def test_wrong_prefix(source, target, save):
    message = ("checkpoint FILE has no key that starts with 'encoder.'; its keys start with {}; give one of these as the "
               'prefix, or none')
    state = source.state_dict()
    assert_refused(target, save(state), message.format("'stem.', 'stages.'"), 'encoder')
    wrapped = {**with_prefix('model.backbone.', state), 'model.head.weight': torch.ones(2)}
    assert_refused(target, save(wrapped), message.format("'model.backbone.', 'model.head.'"), 'encoder.')


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    def fail(url, *args, **kwargs):
        raise urllib.error.URLError('no route to host')
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', fail)


@pytest.mark.parametrize('sources, before', [(URL, ''), (['absent.pth', URL], 'absent.pth does not exist; ')],
                         ids=['URL', 'list'])
def test_no_network(sources, before, target, no_network):
    with pytest.raises(CheckpointError) as raised:
        load_pretrained(target, sources)
    assert str(raised.value) == (f'no pretrained weights: {before}{URL} cannot be downloaded (<urlopen error no route to '
                                 f'host>); {NO_WEIGHTS}')


def test_file_after_a_url_that_cannot_be_reached(source, target, save, no_network):
    load_pretrained(target, [URL, save(source.state_dict())])
    assert_same_state(target, source.state_dict())


def test_download_is_kept(source, target, save, monkeypatch, tmp_path):
    path, calls = save(source.state_dict()), []

    def download(url, to, hash_prefix=None, progress=True):
        calls.append(url)
        shutil.copy(path, to)

    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    for _ in range(2):
        load_pretrained(target, URL)
    assert calls == [URL]
    assert_same_state(target, source.state_dict())


def test_downloads_of_one_name_are_two_files(source, save, monkeypatch, tmp_path):
    paths = {'https://example.invalid/a/model.pth': save(source.state_dict(), 'a.pth'),
             'https://example.invalid/b/model.pth': save(RepVGG(TINY_ARCH).state_dict(), 'b.pth')}
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', lambda url, to, *_, **__: shutil.copy(paths[url], to))
    for url, path in paths.items():
        target = RepVGG(TINY_ARCH)
        load_pretrained(target, url)
        assert_same_state(target, read_checkpoint(path))


def test_download_that_is_a_web_page_is_named_and_not_kept(source, target, save, monkeypatch, tmp_path):
    contents = [b'<!DOCTYPE html><html>sign in</html>', save(source.state_dict()).read_bytes()]
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', lambda url, to, *_, **__: Path(to).write_bytes(contents.pop(0)))
    with pytest.raises(CheckpointError) as raised:
        load_pretrained(target, URL)
    assert str(raised.value) == (
        f'no pretrained weights: checkpoint {URL} is a web page (HTML), as a link that first asks for a login or a click gives '
        f'it; download the file itself; {NO_WEIGHTS}')
    load_pretrained(target, URL)
    assert_same_state(target, source.state_dict())
