"""Weights are loaded whole or not at all, and files that carry code are refused."""
import os
import pickle
import re
import shutil
import urllib.error

import numpy as np
import pytest
import torch
from helpers import TINY_ARCH, TINY_SE_ARCH, assert_same_state, randomize, snapshot
from mmengine.logging import HistoryBuffer, MessageHub

from repvgg_seg import reading
from repvgg_seg.checkpoints import load_pretrained
from repvgg_seg.errors import CheckpointError
from repvgg_seg.models import RepVGG
from repvgg_seg.reading import read_checkpoint, trust_checkpoints
from repvgg_seg.run_checkpoints import find_checkpoint

KEY = 'stages.2.1.conv.branch_identity.weight'
URL = 'https://example.invalid/weights/repvgg.pth'


@pytest.fixture
def source():
    return randomize(RepVGG(TINY_ARCH))


@pytest.fixture
def target():
    return RepVGG(TINY_ARCH)


def with_prefix(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def assert_refused(backbone, source, message, prefix=None):
    """The error has this message, is one line, and nothing was loaded."""
    before = snapshot(backbone)
    with pytest.raises(CheckpointError, match=message) as raised:
        load_pretrained(backbone, source, prefix)
    assert '\n' not in str(raised.value)
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


@pytest.mark.parametrize('source', ['absent.pth', ['absent.pth', 'gone.pth']], ids=str)
def test_missing_file(source, target, tmp_path):
    source = [str(tmp_path / name) for name in source] if isinstance(source, list) else str(tmp_path / source)
    assert_refused(target, source, r'no pretrained weights: .*absent\.pth does not exist.*init_cfg\.checkpoint=PATH')
    with pytest.raises(CheckpointError, match='absent.pth does not exist'):
        read_checkpoint(tmp_path / 'absent.pth')


@pytest.mark.parametrize('kept', [0.0, 0.001, 0.3, 0.9, 0.999])
@pytest.mark.parametrize('zipped', [True, False])
def test_truncated_file(kept, zipped, source, target, tmp_path):
    path = tmp_path / 'short.pth'
    torch.save(source.state_dict(), path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:int(path.stat().st_size * kept)])
    assert_refused(target, path, r'short\.pth (cannot be read|is refused)')


@pytest.mark.parametrize('content', [
    b'', b'no checkpoint\n', b'<!DOCTYPE html>', b'\x89PNG\r\n\x1a\n', b'version https://git-lfs', b'{"a": 1}',
    b'PK\x03\x04', b'import torch\n',
    b'\x1f\x8b\x08\x00', b'.', b'\x80\x02.', b'\x80\x02u.', b'\x80\x02h\x05.', b'\x80\x02a.',
], ids=repr)
def test_file_that_is_no_checkpoint(content, target, tmp_path):
    path = tmp_path / 'strange.pth'
    path.write_bytes(content)
    assert_refused(target, path, r'strange\.pth (cannot be read|is refused)')


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path, )


@pytest.mark.parametrize('write', [
    torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2)),
], ids=['torch', 'pickle'])
def test_file_that_carries_code_is_refused(write, source, target, tmp_path):
    trace, path = tmp_path / 'trace', tmp_path / 'evil.pth'
    write(dict(state_dict=source.state_dict(), meta=Malicious(trace)), path)
    assert_refused(target, path, r'evil\.pth is refused: .*(mkdir|damaged).*could run code')
    assert not trace.exists()
    torch.load(path, weights_only=False) if write is torch.save else pickle.loads(path.read_bytes())
    assert trace.exists(), 'the file was harmless: the test shows nothing'


def test_file_that_carries_code_is_read_when_it_is_trusted(source, target, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(reading, 'print_log', lambda message, **kwargs: said.append(message))
    path = tmp_path / 'old.pth'
    torch.save(dict(state_dict=source.state_dict(), meta=Malicious(tmp_path / 'trace')), path)
    trust_checkpoints(True)
    try:
        load_pretrained(target, path)
    finally:
        trust_checkpoints(False)
    assert_same_state(target, source.state_dict())
    assert (tmp_path / 'trace').exists()
    assert re.search(r'old\.pth is trusted: it holds more .*mkdir.* may run any code', said[0])


class Getattr:
    """Asks for an attribute when it is unpickled: the way from an allowed class to anything else."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return getattr, self.arguments


@pytest.mark.parametrize('arguments', [
    (HistoryBuffer, '__init__'), (HistoryBuffer, '__subclasses__'), (np.ndarray, 'tofile'),
], ids=str)
def test_getattr_in_a_checkpoint_is_refused(arguments, target, save):
    assert_refused(target, save(dict(state_dict={}, meta=Getattr(*arguments))), 'is refused')


@pytest.mark.parametrize('content, kind', [([torch.ones(2)], 'list'), (torch.ones(2), 'Tensor'), (3, 'int')])
def test_not_a_dict(content, kind, target, save):
    assert_refused(target, save(content), f'holds a {kind}, expected a dict')


@pytest.mark.parametrize('content, message', [
    ({}, 'holds no weights'), (dict(state_dict={}, meta={}), 'holds no weights'),
    (dict(epoch=3), 'holds no weights; its keys are epoch'), ({0: torch.ones(2)}, 'holds no weights; its keys are 0'),
    ({'conv1.weight': torch.ones(2, 3, 7, 7)}, 'no RepVGG in the layout of own, official, .*; .*conv1.weight'),
], ids=['empty', 'empty state_dict', 'no tensor', 'number as key', 'ResNet'])
def test_not_a_repvgg(content, message, target, save):
    assert_refused(target, save(content), message)


@pytest.mark.parametrize('found, wanted', [('A0', 'A1'), ('A1', 'B0'), ('A0', TINY_ARCH)], ids=str)
def test_other_arch_is_told_by_name(found, wanted, save):
    expected = r'a RepVGG of \(2, 2, 6, 1\) blocks, \(16, 24, 32, 48\)' if wanted is TINY_ARCH else f'RepVGG-{wanted}'
    path = save(RepVGG(found).state_dict())
    assert_refused(RepVGG(wanted), path, f'holds RepVGG-{found}, but the backbone is {expected}')


@pytest.mark.parametrize('groups', [1, 4])
def test_other_groups_are_told(groups, source, save):
    assert_refused(RepVGG(dict(TINY_ARCH, groups=groups)), save(source.state_dict()), f'2 groups.*{groups} groups')


def test_squeeze_and_excitation_too_much_or_too_little(save):
    plain = dict(TINY_SE_ARCH, use_se=False)
    assert_refused(RepVGG(plain), save(RepVGG(TINY_SE_ARCH).state_dict()), r'not used \(stem\.se\.reduce\.weight')
    assert_refused(RepVGG(TINY_SE_ARCH), save(RepVGG(plain).state_dict()), r'missing \(stem\.se\.reduce\.weight')


def test_form_must_fit(source, target, save):
    assert_refused(RepVGG(TINY_ARCH, deploy=True), save(source.state_dict()), 'is in training form.*switch_to_deploy')
    assert_refused(target, save(source.switch_to_deploy().state_dict()), 'holds fused weights, which cannot be trained')


@pytest.mark.parametrize('change, message', [
    (lambda state: state.pop(KEY), rf'1 missing \({KEY}\)'),
    (lambda state: state.update(extra=torch.ones(1)), r'1 not used \(extra\)'),
    (lambda state: state.update({'stem.conv.scale': torch.ones(1)}), r'1 not used \(stem\.conv\.scale\)'),
    (lambda state: state.update({KEY: torch.ones(3)}), rf'1 of another shape \({KEY} \(3,\) instead of \(32,\)\)'),
    (lambda state: state.update({'stem.conv.branch_3x3.conv.weight': torch.ones(16, 1, 3, 3)}), 'another shape .*stem'),
], ids=['missing', 'extra', 'extra in the stem', 'shape', 'grey images'])
@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_any_difference_is_refused(change, message, prefix, source, target, save):
    state = source.state_dict()
    change(state)
    assert_refused(target, save(with_prefix(prefix, state)), message)


def test_wrong_prefix(source, target, save):
    assert_refused(target, save(source.state_dict()), "no key that starts with 'encoder.'; its keys", 'encoder')


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    def fail(url, *args, **kwargs):
        raise urllib.error.URLError('no route to host')
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', fail)


@pytest.mark.parametrize('sources', [URL, ['absent.pth', URL]], ids=['URL', 'list'])
def test_no_network(sources, target, no_network):
    assert_refused(target, sources, 'example.invalid.* cannot be downloaded .*no route to host')


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


@pytest.fixture
def training_state(source):
    """A checkpoint as MMEngine's runner writes it."""
    hub = MessageHub.get_instance('test_checkpoints')
    for value in (0.5, np.float64(0.25), torch.tensor(0.125)):
        hub.update_scalar('train/loss', value)
    for key, value in (('epoch', 3), ('best_score', np.float64(70.5)), ('cfg', 'model = None'), ('iter', np.int64(8)),
                       ('dataset_meta', dict(classes=('road', 'car'), palette=[[0, 0, 0], [1, 1, 1]]))):
        hub.update_info(key, value)
    optimizer = torch.optim.SGD(source.parameters(), 0.1, momentum=0.9)
    source(torch.randn(1, 3, 64, 64))[0].sum().backward()
    optimizer.step()
    return dict(meta=dict(epoch=3, iter=8, dataset_meta=dict(classes=('road', 'car')), seed=np.int64(3)),
                state_dict=source.eval().state_dict(), message_hub=hub.state_dict(), optimizer=optimizer.state_dict(),
                param_schedulers=[dict(last_step=3, _last_value=[np.float64(0.1)])])


def test_mmengine_training_state_is_readable(training_state, target, save, source):
    path = save(training_state)
    history = read_checkpoint(path)['message_hub']['log_scalars']['train/loss']
    assert history.data[0].tolist() == [0.5, 0.25, 0.125]
    load_pretrained(target, path)
    assert_same_state(target, source.state_dict())


def test_mmengine_training_state_of_numpy_1_is_readable(training_state, tmp_path):
    """NumPy 1 called its internal module numpy.core; every checkpoint published before 2024 has that name."""
    legacy = tmp_path / 'legacy.pth'
    torch.save(training_state, legacy, _use_new_zipfile_serialization=False)
    data = legacy.read_bytes()
    assert b'numpy._core.multiarray' in data
    legacy.write_bytes(data.replace(b'numpy._core.multiarray', b'numpy.core.multiarray'))
    assert read_checkpoint(legacy)['meta']['seed'] == 3
