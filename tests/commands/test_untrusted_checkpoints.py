"""A checkpoint that carries code runs none of it in any tool that takes one, unless the user says that it is trusted."""
import os
from pathlib import Path

import pytest
import torch
from mistakes import assert_error_line
from PIL import Image

from repvgg_seg.core.reading import trusted

REFUSED = ('checkpoint {} is refused: it holds more than tensors and plain values (posix.mkdir), which could run code; save '
           'its state_dict alone. If you know who made it, add --trust-checkpoint')


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path, )


@pytest.fixture
def evil(checkpoint, tmp_path) -> Path:
    """A sound training checkpoint, and something more in it."""
    content = torch.load(checkpoint, weights_only=False)
    Image.new('RGB', (64, 48)).save(tmp_path / 'a.png')
    torch.save({**content, 'extra': Malicious(tmp_path / 'trace')}, tmp_path / 'evil.pth')
    return tmp_path / 'evil.pth'


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
    'resume': lambda config, evil, folder: (
        'train', config, '--work-dir', folder / 'run', '--resume', '--cfg-options', f'load_from={evil}'),
}


@pytest.mark.parametrize('call', CALLS)
def test_nothing_runs(run_tool, config, evil, tmp_path, call):
    assert_error_line(run_tool(*CALLS[call](config, evil, tmp_path)), f'error: {REFUSED.format(evil)}')
    assert not (tmp_path / 'trace').exists()


def test_resuming_passes_it_over(run_tool, config, evil, tmp_path):
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    evil.rename(work_dir / 'epoch_1.pth')
    result = run_tool('train', config, '--work-dir', work_dir, '--resume')
    assert_error_line(result, f'error: none of the 1 checkpoints in {work_dir} is whole; restore one, or train without '
                      '--resume: ' + REFUSED.format(work_dir / 'epoch_1.pth'))
    assert not (tmp_path / 'trace').exists()


@pytest.mark.parametrize('call', ['test', 'convert'])
def test_trusted(run_tool, config, evil, tmp_path, call):
    result = run_tool(*CALLS[call](config, evil, tmp_path), '--trust-checkpoint')
    assert (tmp_path / 'trace').exists() and not trusted(), 'trust outlived the command'
    assert 'evil.pth is trusted' in result.out + result.err
    if call == 'test':
        assert result.code == 0
