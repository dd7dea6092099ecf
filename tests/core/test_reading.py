"""What is read from a file of torch.save, and what is refused: nothing in it is run."""
import argparse
import pickle
import re
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import numpy as np
import pytest
import torch
from helpers import TINY_ARCH, assert_same_state, randomize
from mistakes import Malicious
from mmengine.logging import HistoryBuffer, MessageHub
from torch import nn

from repvgg_seg.core import reading
from repvgg_seg.core.errors import CheckpointError
from repvgg_seg.core.reading import read_checkpoint, trust_checkpoints, trusted
from repvgg_seg.models import RepVGG
from repvgg_seg.models.pretrained import load_pretrained

REFUSED = ('checkpoint {path} is refused: it holds more than tensors and plain values ({names}), which could run code; save '
           'its state_dict alone. If you know who made it, add --trust-checkpoint')
SAVE_WEIGHTS = 'save the weights of the model that it was made from, torch.save(model.state_dict(), FILE)'


@pytest.fixture
def source():
    return randomize(RepVGG(TINY_ARCH))


@pytest.fixture
def trusting():
    trust_checkpoints(True)
    yield
    trust_checkpoints(False)


def refusal(path) -> str:
    """The message with which a file is refused."""
    with pytest.raises(CheckpointError) as raised:
        read_checkpoint(path)
    return str(raised.value)


@pytest.mark.parametrize('kept', [0.001, 0.3, 0.9, 0.999])
@pytest.mark.parametrize('zipped', [True, False])
def test_truncated_file(kept, zipped, source, tmp_path):
    path = tmp_path / 'short.pth'
    torch.save(source.state_dict(), path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:int(path.stat().st_size * kept)])
    detail = 'File is not a zip file' if zipped else '[^;]+'  # PyTorch's own.
    assert re.fullmatch(rf'checkpoint {re.escape(str(path))} is damaged \(cut short\?\): {detail}; get it again', refusal(path))


@pytest.mark.whole
def test_damaged_bytes_are_one_line_and_harm_nobody(training_state, tmp_path):
    """In a process of its own: NumPy's own unpickling ended it with a segmentation fault."""
    small = dict(training_state, state_dict=dict(weight=torch.ones(2)), optimizer={})
    for name in ('archive', 'legacy'):
        torch.save(small, tmp_path / name, _use_new_zipfile_serialization=name == 'archive')
    result = subprocess.run([sys.executable, '-c', FUZZ, tmp_path / 'archive', tmp_path / 'legacy'], capture_output=True,
                            text=True, timeout=600)
    assert result.returncode == 0 and int(result.stdout) > 400, result.stderr[-2000:]


FUZZ = """
import random, sys, warnings
from pathlib import Path
from repvgg_seg.core.errors import CheckpointError
from repvgg_seg.core.reading import read_checkpoint
warnings.simplefilter('ignore')
random.seed(0)
refused = 0
for path in map(Path, sys.argv[1:]):
    read_checkpoint(path)
    whole = path.read_bytes()
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(random.choice((1, 2, 8))):
            content[random.randrange(len(content))] = random.randrange(256)
        path.write_bytes(content)
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            refused += 1
            assert '\\n' not in str(error), error
print(refused)
"""


FORMS = {
    'archive': torch.save,
    'legacy': lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
    'protocol 4': lambda content, path: torch.save(content, path, pickle_protocol=4),
    'pickle': lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2)),
}


@pytest.mark.parametrize('form', FORMS)
def test_file_that_carries_code_is_refused(form, source, tmp_path):
    trace, path = tmp_path / 'trace', tmp_path / 'evil.pth'
    FORMS[form](dict(state_dict=source.state_dict(), meta=Malicious(trace)), path)
    assert refusal(path) == (f'checkpoint {path} is a plain pickle, not a file of torch.save; expected a checkpoint that '
                             'torch.save or safetensors wrote' if form == 'pickle' else
                             REFUSED.format(path=path, names='posix.mkdir'))
    assert not trace.exists()
    pickle.loads(path.read_bytes()) if form == 'pickle' else torch.load(path, weights_only=False)
    assert trace.exists(), 'the file was harmless: the test shows nothing'


def test_file_that_carries_code_is_read_when_it_is_trusted(source, tmp_path, monkeypatch, trusting):
    said, path, target = [], tmp_path / 'old.pth', RepVGG(TINY_ARCH)
    monkeypatch.setattr(reading, 'print_log', lambda message, **kwargs: said.append(message))
    torch.save(dict(state_dict=source.state_dict(), meta=Malicious(tmp_path / 'trace')), path)
    load_pretrained(target, path)
    assert_same_state(target, source.state_dict())
    assert (tmp_path / 'trace').exists()
    assert said == [f'{path} is trusted: it holds more than tensors and plain values (posix.mkdir) and may run any code now']


def test_other_threads_and_contexts_trust_nothing(trusting):
    with ThreadPoolExecutor() as pool:
        assert trusted() and not pool.submit(trusted).result()
    copy_context().run(trust_checkpoints, False)
    assert trusted()


class Getattr:
    """Asks for an attribute when it is unpickled: the way from an allowed class to anything else."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return getattr, self.arguments


@pytest.mark.parametrize('arguments', [
    (HistoryBuffer, '__init__'), (HistoryBuffer, '__subclasses__'), (np.ndarray, 'tofile'),
], ids=str)
def test_getattr_in_a_checkpoint_is_refused(arguments, save):
    path = save(dict(state_dict={}, meta=Getattr(*arguments)))
    assert refusal(path) == REFUSED.format(path=path, names='builtins.getattr')


class Allocation:
    """Takes a terabyte when it is unpickled."""

    def __reduce__(self):
        return bytearray, (2**40, )


@pytest.mark.parametrize('zipped', [True, False])
def test_a_bytearray_of_any_size_is_not_made(zipped, tmp_path):
    torch.save(dict(state_dict={}, meta=Allocation()), path := tmp_path / 'a.pth', _use_new_zipfile_serialization=zipped)
    assert refusal(path) == REFUSED.format(path=path, names='builtins.bytearray')


@pytest.mark.situation("Other people's checkpoints", 'a checkpoint that holds the whole pickled model',
                       before='"is refused ... add --trust-checkpoint", which led to the next refusal',
                       now='named for what it is, with how to save its weights instead; trusting it is not advised')
@pytest.mark.parametrize('content, problem', [
    (nn.ReLU(), f'holds pickled modules (torch.nn.modules.activation.ReLU), not only weights; {SAVE_WEIGHTS}'),
    (dict(model=nn.ReLU()), f'holds pickled modules (torch.nn.modules.activation.ReLU), not only weights; {SAVE_WEIGHTS}'),
    (Malicious('trace'), f'is one pickled object (posix.mkdir), not a dict with weights; if it is a model, {SAVE_WEIGHTS}'),
], ids=['module', 'module inside', 'object'])
def test_whole_objects_are_named(content, problem, save):
    path = save(content)
    assert refusal(path) == f'checkpoint {path} {problem}'


def test_newer_pickle_protocol_is_named(source, tmp_path):
    torch.save(dict(state_dict=source.state_dict()), path := tmp_path / 'a.pth', pickle_protocol=4)
    assert refusal(path) == (f'checkpoint {path} is refused: it was saved with pickle_protocol=4, which PyTorch reads only '
                             'where code may run; save its state_dict alone. If you know who made it, add --trust-checkpoint')


@pytest.fixture
def yacs(monkeypatch):
    """The class of yacs, by which the official training code keeps its settings; while a file is written."""
    module = types.ModuleType('yacs.config')

    class CfgNode(dict):
        def __setstate__(self, state):
            raise AssertionError('was run')

    CfgNode.__module__, CfgNode.__qualname__, module.CfgNode = 'yacs.config', 'CfgNode', CfgNode
    monkeypatch.setitem(sys.modules, 'yacs', types.ModuleType('yacs'))
    monkeypatch.setitem(sys.modules, 'yacs.config', module)
    return CfgNode


@pytest.mark.situation("Other people's checkpoints", "the authors' own ckpt_epoch_N.pth (yacs), timm's last.pth.tar (argparse)",
                       before='refused: "could run code"', now='read; the settings are plain dicts')
@pytest.mark.parametrize('form', ['archive', 'legacy'])
def test_training_checkpoints_of_the_authors_and_of_timm(form, source, yacs, tmp_path):
    settings = yacs(MODEL=yacs(ARCH='A0'))
    settings.__dict__['__immutable__'] = True
    optimizer = torch.optim.SGD(source.parameters(), 0.1)
    for content in (
            dict(model=source.state_dict(), optimizer=optimizer.state_dict(), max_accuracy=70.5, epoch=3, config=settings),
            dict(epoch=3, arch='repvgg_a0', state_dict=source.state_dict(), args=argparse.Namespace(lr=0.1), metric=70.5)):
        FORMS[form](content, tmp_path / 'theirs.pth')
        target = RepVGG(TINY_ARCH)
        load_pretrained(target, tmp_path / 'theirs.pth')
        assert_same_state(target, source.state_dict())
        assert read_checkpoint(tmp_path / 'theirs.pth')['epoch'] == 3


@pytest.fixture
def training_state(source):
    """A checkpoint as MMEngine's runner writes it."""
    hub = MessageHub('test_reading')
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


def test_mmengine_training_state_is_readable(training_state, save, source):
    target = RepVGG(TINY_ARCH)
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


def test_arrays_are_saved_again_as_plain_ones(training_state, save):
    again = save(read_checkpoint(save(training_state)), 'again.pth')
    assert b'repvgg_seg' not in again.read_bytes()
    history = read_checkpoint(again)['message_hub']['log_scalars']['train/loss']
    assert history.data[0].tolist() == [0.5, 0.25, 0.125] and history.mean() == pytest.approx(0.875 / 3)


def test_a_history_in_a_file_changes_no_other(save):
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    state = history.__getstate__()
    state['statistics_methods'] = dict(state['statistics_methods'], mean=HistoryBuffer.min)
    path = save(dict(hub=history))
    before = dict(HistoryBuffer._statistics_methods)
    assert 'hub' in read_checkpoint(path)
    assert HistoryBuffer._statistics_methods == before
