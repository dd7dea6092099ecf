"""A checkpoint that carries code runs none of it in any tool that takes one, unless the user says that it is trusted."""
import shutil
from pathlib import Path

import pytest
import torch
from mistakes import REFUSED, Malicious, assert_error_line
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner, load_checkpoint
from PIL import Image

from repvgg_seg.core.reading import trusted


@pytest.fixture
def evil(checkpoint, tmp_path) -> Path:
    """A sound training checkpoint, and something more in it."""
    content = torch.load(checkpoint, weights_only=False)
    Image.new('RGB', (64, 48)).save(tmp_path / 'a.png')
    torch.save({**content, 'extra': Malicious(tmp_path / 'trace')}, tmp_path / 'evil.pth')
    return tmp_path / 'evil.pth'


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


PARTS = {  # What the config has beside, for a checkpoint.
    'model': "model = dict(init_cfg=[dict(type='Pretrained', checkpoint='{}')])",
    'head': "model = dict(decode_head=dict(init_cfg=[dict(type='Pretrained', checkpoint='{}')]))",
    'prefix': "model = dict(auxiliary_head=dict(init_cfg=[dict(type='Pretrained', checkpoint='{}', prefix='decode_head')]))",
    'hook': "custom_hooks = [dict(type='LoadingHook', path='{}')]",
}


@HOOKS.register_module()
class LoadingHook(Hook):
    """Reads weights as hooks of other packages do, such as those of a teacher."""

    def __init__(self, path: str) -> None:
        self.path = path

    def before_train(self, runner: Runner) -> None:
        load_checkpoint(runner.model, self.path)


CALLS = {  # Tool, and its arguments for a config, a checkpoint and a folder.
    'test': lambda config, evil, folder: ('test', config, evil, '--work-dir', folder / 'run'),
    'predict': lambda config, evil, folder: ('predict', config, evil, folder / 'a.png', '--out', folder / 'out'),
    'deploy': lambda config, evil, folder: ('deploy', config, evil, '--out', folder / 'out'),
    'convert': lambda config, evil, folder: ('convert_weights', evil, folder / 'out.pth'),
    'init_cfg': lambda config, evil, folder: (
        'train', config, '--work-dir', folder / 'run', '--cfg-options', 'model.backbone.init_cfg.type=Pretrained',
        f'model.backbone.init_cfg.checkpoint={evil}'),
    'load_from': lambda config, evil, folder: (
        'train', config, '--work-dir', folder / 'run', '--cfg-options', f'load_from={evil}'),
    **{part: lambda config, evil, folder, text=text: (
        'train', write(folder / 'other.py', f"_base_ = '{config}'\n{text.format(evil)}"), '--work-dir', folder / 'run')
        for part, text in PARTS.items()},
    'resume': lambda config, evil, folder: (
        'train', config, '--work-dir', folder / 'run', '--resume', '--cfg-options', f'load_from={evil}'),
}


@pytest.mark.situation('Hostile or broken files', 'weights with code in them, in any place of a config, or read by a hook',
                       before='MMEngine ran it: `init_cfg` of the model or a head, `mmengine.runner.load_checkpoint`',
                       now='one line; nothing in the file runs')
@pytest.mark.parametrize('call', CALLS)
def test_nothing_runs(run_tool, config, evil, tmp_path, call):
    assert_error_line(run_tool(*CALLS[call](config, evil, tmp_path)), f'error: {REFUSED.format(evil)}')
    assert not (tmp_path / 'trace').exists()


PROGRAM = '{} is a program, which can run any code; if you know who made it, add --trust-checkpoint, else use another format'
NO_URL = 'checkpoint {} cannot be downloaded; expected a file or a URL of http or https'
FORMS = {  # What is given -> how test and predict refuse it; deploy takes no programs, and reads a .pt2 as anything else.
    **dict.fromkeys(('{folder}/link.pth', '{folder}/evil.pkl', '{folder}/evil.bin', '{folder}/evil.pt',
                     'http://example.invalid/evil.pth'), REFUSED),
    '{folder}/evil.pt2': PROGRAM,
    **dict.fromkeys(('file://{folder}/evil.pth', 'torchvision://resnet18', 'open-mmlab://resnet18_v1c'), NO_URL),
}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('call', ['test', 'predict', 'deploy'])
def test_no_form_of_it_runs(run_tool, config, evil, tmp_path, monkeypatch, call, form):
    for suffix in ('.pkl', '.bin', '.pt', '.pt2'):
        shutil.copy(evil, evil.with_suffix(suffix))
    (tmp_path / 'link.pth').symlink_to(evil)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', lambda url, path, *_, **__: shutil.copy(evil, path))
    given, message = form.format(folder=tmp_path), REFUSED if (call, form[-4:]) == ('deploy', '.pt2') else FORMS[form]
    result = run_tool(*CALLS[call](config, given, tmp_path))
    downloaded = list((tmp_path / 'hub').rglob('*-evil.pth'))
    assert len(downloaded) == given.startswith('http://')
    named = downloaded[0] if downloaded and call == 'deploy' else given  # Deploying downloads first.
    assert_error_line(result, f'error: {message.format(named)}')
    assert not (tmp_path / 'trace').exists()


@pytest.mark.parametrize('call', ['test', 'predict'])
def test_the_config_of_a_fused_folder(run_tool, config, evil, tmp_path, call):
    folder = tmp_path / 'fused'
    folder.mkdir()
    evil.rename(folder / 'model.pth')
    code = f'__import__("os").mkdir({str(tmp_path / "trace")!r})'
    (folder / 'config.py').write_text(f'model = dict(type="EncoderDecoder")\nx = {code}\n')
    assert_error_line(run_tool(*CALLS[call](config, folder, tmp_path)),
                      f'error: {folder / "config.py"} is refused: line 2 is code, where tools/deploy.py writes plain values; '
                      'write the folder again')
    assert not (tmp_path / 'trace').exists()


def test_last_checkpoint_is_not_followed(run_tool, config, evil, tmp_path):
    write(tmp_path / 'run/last_checkpoint', str(evil))
    result = run_tool('train', config, '--work-dir', tmp_path / 'run', '--resume', '--cfg-options', 'train_cfg.max_epochs=1')
    assert result.code == 0, result.err
    assert f'There is no checkpoint in {tmp_path / "run"} to resume from; training starts from scratch' in (
        result.out + result.err)
    assert not (tmp_path / 'trace').exists()


@pytest.mark.parametrize('hooks', ['', "custom_hooks = [dict(type='EMAHook')]"], ids=['plain', 'EMAHook'])
def test_resuming_passes_it_over(run_tool, config, evil, tmp_path, hooks):
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    evil.rename(work_dir / 'epoch_1.pth')
    config = write(tmp_path / 'other.py', f"_base_ = '{config}'\n{hooks}")
    result = run_tool('train', config, '--work-dir', work_dir, '--resume')
    assert_error_line(result, f'error: none of the 1 checkpoints in {work_dir} is intact; restore one, or train without '
                      '--resume: ' + REFUSED.format(work_dir / 'epoch_1.pth'))
    assert not (tmp_path / 'trace').exists()


@pytest.mark.parametrize('call', ['test', 'convert'])
def test_trusted(run_tool, config, evil, tmp_path, call):
    result = run_tool(*CALLS[call](config, evil, tmp_path), '--trust-checkpoint')
    assert (tmp_path / 'trace').exists() and not trusted(), 'trust outlived the command'
    assert 'evil.pth is trusted' in result.out + result.err
    if call == 'test':
        assert result.code == 0
