"""Whatever MMEngine loads by itself is read without running anything that is in it."""
import shutil
from pathlib import Path

import pytest
import torch
from mistakes import REFUSED, Malicious
from mmengine import runner
from mmengine.model import initialize
from mmengine.runner import CheckpointLoader, load_checkpoint
from torch import nn

from repvgg_seg.engine.safe_loading import load_from_repvgg_seg, load_safely
from repvgg_seg.errors import CheckpointError

URL = 'https://example.invalid/a.pth'
URLS = {URL: URL, URL.replace('https', 'http'): URL.replace('https', 'http'),
        **dict.fromkeys(('torchvision://resnet18', 'modelzoo://resnet18'), runner.get_torchvision_models()['resnet18']),
        **dict.fromkeys(('open-mmlab://resnet18_v1c', 'openmmlab://resnet18_v1c'),
                        runner.get_external_models()['resnet18_v1c']),
        'mmcls://resnet18': runner.get_mmcls_models()['resnet18']}


@pytest.fixture(autouse=True)
def schemes(monkeypatch) -> None:
    """MMEngine's, as after :func:`load_safely`; those of before are put back."""
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    load_safely()


@pytest.fixture
def evil(save, tmp_path) -> Path:
    return save(dict(state_dict=nn.Linear(2, 2).state_dict(), extra=Malicious(tmp_path / 'trace')), 'evil.pth')


@pytest.fixture
def downloads(monkeypatch, tmp_path) -> list[str]:
    """Let every download bring the file ``evil.pth``; the URLs."""
    urls = []

    def download(url: str, path: str, *args, **kwargs) -> None:
        urls.append(url)
        shutil.copy(tmp_path / 'evil.pth', path)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    return urls


def test_no_scheme_is_left_out():
    assert set(CheckpointLoader._schemes.values()) == {load_from_repvgg_seg}


@pytest.mark.parametrize('name', URLS)
def test_names_and_urls(name, evil, downloads, tmp_path):
    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(nn.Linear(2, 2), name)
    assert not (tmp_path / 'trace').exists()
    assert downloads == [URLS[name]] and str(raised.value) == REFUSED.format(URLS[name])


@pytest.mark.parametrize('config', [dict(), dict(prefix='encoder')], ids=['whole', 'prefix'])
@pytest.mark.parametrize('suffix', ['.pth', '.pt', '.pkl', '.bin', '.ckpt', ''])
def test_files(suffix, config, evil, tmp_path):
    path = evil.rename(tmp_path / f'weights{suffix}')
    (tmp_path / 'link.pth').symlink_to(path)
    for source in (path, tmp_path / 'link.pth'):
        with pytest.raises(CheckpointError) as raised:
            initialize(nn.Linear(2, 2), dict(type='Pretrained', checkpoint=str(source), **config))
        assert str(raised.value) == REFUSED.format(source)
    assert not (tmp_path / 'trace').exists()


@pytest.mark.parametrize('name, message', [
    ('file://{evil}', 'checkpoint file://{evil} cannot be downloaded; expected a file or a URL of http or https'),
    ('s3://bucket/a.pth', 'checkpoint s3://bucket/a.pth cannot be downloaded; expected a file or a URL of http or https'),
    ('pavi://model', 'checkpoint pavi://model cannot be downloaded; expected a file or a URL of http or https'),
    ('open-mmlab://a', 'checkpoint open-mmlab://a is none that MMEngine has the URL of; give a file or a URL'),
    ('torchvision://a', 'checkpoint torchvision://a is none that MMEngine has the URL of; give a file or a URL'),
    ('{folder}/none.pth', 'checkpoint {folder}/none.pth does not exist'),
])
def test_what_cannot_be_read(name, message, evil, tmp_path):
    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(nn.Linear(2, 2), name.format(evil=evil, folder=tmp_path))
    assert str(raised.value) == message.format(evil=evil, folder=tmp_path)
    assert not (tmp_path / 'trace').exists()


@pytest.mark.parametrize('wrap', [dict, lambda state: dict(state_dict=state), lambda state: dict(model=state, epoch=1)],
                         ids=['bare', 'state_dict', 'model'])
def test_sound_weights_load(wrap, save):
    source, target = nn.Linear(2, 2), nn.Linear(2, 2)
    initialize(target, dict(type='Pretrained', checkpoint=str(save(wrap(source.state_dict())))))
    assert torch.equal(target.weight, source.weight) and torch.equal(target.bias, source.bias)


def test_a_backbone_from_a_classifier(save, downloads):
    source, target = nn.Linear(2, 2), nn.Linear(2, 2)
    save({'backbone.weight': source.weight, 'backbone.bias': source.bias, 'head.bias': source.bias}, 'evil.pth')
    load_checkpoint(target, 'mmcls://resnet18', strict=True)
    assert torch.equal(target.weight, source.weight)
