"""Checkpoints and deployed folders on a stand-in for the Hugging Face hub: downloaded, pushed, and what is refused."""
import json
import os
import shutil
import sys
from pathlib import Path

import hub as stand_ins
import pytest
import torch
from mistakes import assert_error_line
from mmengine.config import Config

from repvgg_seg.core.hub import download
from repvgg_seg.core.reading import read_checkpoint
from repvgg_seg.deploy.formats import FORMATS
from repvgg_seg.engine.classes import trained_classes
from repvgg_seg.engine.trained_model import build_trained
from repvgg_seg.models import RepVGG
from repvgg_seg.runtime.predictor import sha256_of

pytest.importorskip('huggingface_hub', reason='needs the extra [hub]')


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty hub, and an empty cache for it; yields its content."""
    from huggingface_hub import constants
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('HF_TOKEN', 'hf_of_nobody')
    with stand_ins.stand_in() as (address, repositories):
        monkeypatch.setenv('HF_ENDPOINT', address)
        yield repositories


@pytest.fixture
def fused(run_tool, config, random_checkpoint, tmp_path) -> Path:
    """A deployed folder with fused weights."""
    pytest.importorskip('safetensors', reason='needs the extra [hub]')
    result = run_tool('deploy', config, random_checkpoint, '--out', tmp_path / 'fused', '--formats', 'safetensors')
    assert result.code == 0, result.err
    return tmp_path / 'fused'


def test_a_fused_model_is_pushed_and_loaded(run_tool, hub, fused, config, random_checkpoint, tmp_path):
    result = run_tool('push', fused, 'me/streets')
    assert result.code == 0, result.err
    assert result.out == f'Wrote {os.environ["HF_ENDPOINT"]}/me/streets/commit/1; use it as hf://me/streets\n'
    assert set(hub['me/streets']) == {'README.md', 'deploy.json', 'config.py', 'model.safetensors'}
    card = hub['me/streets']['README.md'].decode()
    assert card.startswith('---\nlibrary_name: repvgg_seg\npipeline_tag: image-segmentation\n')
    assert '| fused weights | fp32 | any | 0.0000% |  | ' in card and '0 road, 1 sidewalk' in card
    assert 'repvgg-seg test CONFIG hf://me/streets\n' in card
    shutil.rmtree(fused)
    for checkpoint in ('hf://me/streets', 'hf://me/streets@main'):
        result = run_tool('test', config, checkpoint, '--work-dir', tmp_path / 'run')
        assert result.code == 0, result.err
    trained = run_tool('test', config, random_checkpoint, '--work-dir', tmp_path / 'trained')
    assert trained.code == 0, trained.err
    found, expected = (json.loads((tmp_path / name / 'test.json').read_text())['mIoU'] for name in ('run', 'trained'))
    assert found == pytest.approx(expected, abs=0.01)


def test_safetensors_beside_pth(run_tool, config, checkpoint, tmp_path):
    """Both hold the same model and know its classes; a folder with both is loaded, and a file of it."""
    pytest.importorskip('safetensors', reason='needs the extra [hub]')
    out = tmp_path / 'out'
    for _ in range(2):  # An earlier deployment is replaced.
        result = run_tool('deploy', config, checkpoint, '--out', out, '--formats', 'pth', 'safetensors')
        assert result.code == 0, result.err
    pickled, safe = (read_checkpoint(out / f'model.{suffix}') for suffix in ('pth', 'safetensors'))
    assert set(pickled['state_dict']) == set(safe['state_dict'])
    assert all(torch.equal(value, safe['state_dict'][name]) for name, value in pickled['state_dict'].items())
    assert trained_classes(safe['meta']) == trained_classes(pickled['meta']) and len(trained_classes(safe['meta'])) == 12
    assert set(json.loads((out / 'deploy.json').read_text())['files']) == {'config.py', 'model.pth', 'model.safetensors'}
    (out / 'model.pth').unlink()
    loaded, meta = build_trained(Config.fromfile(config), str(out))
    assert meta['fused'] and all(torch.equal(value, safe['state_dict'][name]) for name, value in loaded.state_dict().items())


def test_an_earlier_deployment_is_replaced(run_tool, hub, fused):
    hub['me/streets'] = {'model.fp32.onnx': b'old', 'notes.txt': b'mine'}
    assert run_tool('push', fused, 'me/streets').code == 0
    assert set(hub['me/streets']) == {'README.md', 'deploy.json', 'config.py', 'model.safetensors', 'notes.txt'}


def weights_of(arch='A0') -> dict:
    return RepVGG(arch).state_dict()


@pytest.mark.parametrize('form', ['pth', 'safetensors'])
def test_weights_of_a_repository(hub, tmp_path, form):
    state = {name: value for name, value in weights_of().items() if name.startswith('stem')}
    if form == 'pth':
        torch.save(state, tmp_path / 'w.pth')
    else:
        pytest.importorskip('safetensors.torch').save_file(state, tmp_path / 'w.safetensors')
    hub['timm/repvgg'] = {'README.md': b'', f'nested/w.{form}': (tmp_path / f'w.{form}').read_bytes()}
    for source in ('hf://timm/repvgg', f'hf://timm/repvgg/nested/w.{form}'):
        read = read_checkpoint(source)
        assert list(read) == list(state) or set(read) == set(state)
        assert all(torch.equal(read[name], value) for name, value in state.items())


def test_pretrained_weights_of_a_backbone(hub, tmp_path):
    model = RepVGG('A0')
    torch.save(model.state_dict(), tmp_path / 'w.pth')
    hub['me/weights'] = {'w.pth': (tmp_path / 'w.pth').read_bytes()}
    loaded = RepVGG('A0', init_cfg=dict(type='Pretrained', checkpoint='hf://me/weights'))
    loaded.init_weights()
    assert all(torch.equal(first, second) for first, second in zip(model.state_dict().values(), loaded.state_dict().values()))


@pytest.mark.parametrize(('source', 'message'), [
    ('hf://timm', 'checkpoint hf://timm is not a name on the hub; expected hf://OWNER/NAME or hf://OWNER/NAME/FILE'),
    ('hf://me/empty', 'checkpoint hf://me/empty has no weights; expected deploy.json, or one file that ends in .safetensors or '
     '.pth: name it as in hf://me/empty/FILE'),
    ('hf://me/two', 'checkpoint hf://me/two has a.pth, b.safetensors; expected deploy.json, or one file that ends in '
     '.safetensors or .pth: name it as in hf://me/two/FILE')])
def test_what_cannot_be_downloaded(run_tool, hub, config, source, message):
    hub.update({'me/empty': {}, 'me/two': {'a.pth': b'', 'b.safetensors': b''}})
    assert_error_line(run_tool('test', config, source), f'error: {message}')


@pytest.mark.parametrize('source', ['hf://me/absent', 'hf://me/two/absent.pth'])
def test_what_is_not_there(run_tool, hub, config, source):
    hub['me/two'] = {}
    result = run_tool('test', config, source)
    assert result.code == 2 and result.err.splitlines()[-1].startswith(f'error: checkpoint {source} cannot be downloaded (404 ')


def test_no_hub(run_tool, config, monkeypatch, tmp_path):
    from huggingface_hub import constants
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('HF_ENDPOINT', 'http://127.0.0.1:9')
    result = run_tool('test', config, 'hf://me/streets')
    assert result.code == 2
    assert result.err.splitlines()[-1].startswith('error: checkpoint hf://me/streets cannot be downloaded (')


def test_without_huggingface_hub(run_tool, config, monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    assert_error_line(run_tool('test', config, 'hf://me/streets'), (
        "error: names that begin with hf:// need huggingface_hub, which is not installed; run: pip install 'repvgg_seg[hub]'"))


def test_exported_files_are_no_weights(hub):
    hub['me/exported'] = {'deploy.json': b'{}', 'model.fp32.onnx': b''}
    assert {path.name for path in download('hf://me/exported').iterdir()} == {'deploy.json', 'model.fp32.onnx'}
    with pytest.raises(ValueError) as error:
        read_checkpoint('hf://me/exported')
    assert str(error.value) == ('checkpoint hf://me/exported holds exported files only, see its deploy.json; expected weights, '
                                'which are written by --formats pth or safetensors')


@pytest.fixture
def exported(tmp_path) -> Path:
    """A folder that looks like one with exported files."""
    folder = tmp_path / 'exported'
    folder.mkdir()
    for name in ('model.fp32.xml', 'model.fp32.bin', 'model.int8.onnx'):
        (folder / name).write_bytes(name.encode())
    entry = dict(output='labels', changed=0.001, bytes=12_345_678, miou=None)
    (folder / 'deploy.json').write_text(json.dumps(dict(
        classes=['road', 'sky'], palette=[[0, 0, 0], [1, 1, 1]], channels='RGB', in_channels=3, dtype='uint8', min_size=41,
        unit='pixels', images=4, real_images=True, evaluated_images=9, miou_before=70.813, repvgg_seg_version='1', artefacts={
            'model.fp32.xml': dict(entry, format='openvino', precision='fp32', size=[48, 64],
                                   sha256=sha256_of(folder / 'model.fp32.xml')),
            'model.int8.onnx': dict(entry, format='onnx', precision='int8', size=None, miou=70.5,
                                    sha256=sha256_of(folder / 'model.int8.onnx'))})))
    return folder


def test_exported_files_are_pushed(run_tool, hub, exported):
    assert run_tool('push', exported, 'me/new', '--private').code == 0
    assert set(hub['me/new']) == {'README.md', 'deploy.json', 'model.fp32.xml', 'model.fp32.bin', 'model.int8.onnx'}
    card = hub['me/new']['README.md'].decode()
    assert '| `model.fp32.xml` | fp32 | 48x64 | 0.1000% |  | 12.3 |\n' in card
    assert '| `model.int8.onnx` | int8 | any | 0.1000% | 70.50 | 12.3 |\n' in card
    assert 'on 4 real image(s); the trained model has mIoU 70.81 on 9 images.' in card and 'fused weights' not in card
    assert "load(snapshot_download('me/new'))" in card and '# RGB, uint8 (H, W, 3)' in card


def test_what_a_page_needs_is_pushed_with_it(run_tool, hub, exported):
    report = json.loads((exported / 'deploy.json').read_text())
    report['artefacts']['model.int8.onnx']['format'] = 'web'
    (exported / 'deploy.json').write_text(json.dumps(report))
    assert_error_line(run_tool('push', exported, 'me/new'), f'error: {exported} has no index.html, which belongs to it; write '
                      'it again with tools/deploy.py')
    for name in FORMATS['web'].names_beside:
        (exported / name).write_text(name)
    assert run_tool('push', exported, 'me/new').code == 0
    assert set(FORMATS['web'].names_beside) < set(hub['me/new'])


@pytest.mark.parametrize(('arguments', 'message'), [
    (('streets', ), 'streets is no name of a repository; expected OWNER/NAME'),
    (('me/a/b', ), 'me/a/b is no name of a repository; expected OWNER/NAME'),
    (('me/public', '--private'), 'me/public exists and is public; leave --private out, or choose another name')])
def test_what_cannot_be_pushed(run_tool, hub, exported, arguments, message):
    hub['me/public'] = {}
    assert_error_line(run_tool('push', exported, *arguments), f'error: {message}')
    assert hub == {'me/public': {}}


def test_a_changed_file_is_not_pushed(run_tool, hub, exported):
    (exported / 'model.int8.onnx').write_bytes(b'changed')
    result = run_tool('push', exported, 'me/new')
    assert result.code == 2 and result.err.startswith(f'error: {exported}/model.int8.onnx is not the file that was exported: ')
    (exported / 'model.int8.onnx').unlink()
    assert_error_line(run_tool('push', exported, 'me/new'), f'error: {exported} has no model.int8.onnx, which belongs to '
                      'it; write it again with tools/deploy.py')
    assert hub == {}
