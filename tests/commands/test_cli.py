"""How the tools treat what goes wrong outside the package."""
import errno
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import pytest
from mistakes import assert_mistake
from torch import OutOfMemoryError

from repvgg_seg.commands import cli
from repvgg_seg.core.errors import DataError, UserError

ROOT = Path(__file__).parents[2]


def failing(error: Exception):
    def main() -> None:
        raise error
    return main


@pytest.mark.parametrize(('error', 'line'), [
    (UserError('two\nlines'), 'error: two lines'),
    (DataError('Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n'
               '  ...\nrepvgg_seg.core.errors.DataError: image a.png cannot be read'), 'error: image a.png cannot be read'),
    (OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has'),
     'error: the memory of the GPU is full (CUDA out of memory); use smaller images or batches'),
    (OSError(errno.ENOSPC, 'No space left on device', 'run.log'),
     'error: run.log cannot be written: the disk is full or the quota spent; checkpoints are unharmed. Make room'),
    (URLError('no network'), 'error: a download failed (no network); give the file instead'),
])
def test_mistakes_end_in_one_line(capsys, error, line):
    with pytest.raises(SystemExit) as stop:
        cli.run(failing(error))
    assert stop.value.code == cli.USER_MISTAKE
    assert capsys.readouterr().err.startswith(line)


@pytest.mark.parametrize('bug', [ZeroDivisionError, RuntimeError, OSError])
def test_bugs_keep_their_traceback(bug):
    with pytest.raises(bug):
        cli.run(failing(bug()))


@pytest.mark.parametrize(('tool', 'config', 'missing'), [
    ('train', 'pspnet_repvgg_b2_cityscapes', 'mmengine'), ('train', 'pspnet_repvgg_b2_cityscapes', 'mmseg'),
    ('classify_train', 'repvgg_b2_imagenet', 'mmpretrain')])
def test_missing_packages_end_in_one_line(tool, config, missing, monkeypatch, run_tool):
    from repvgg_seg.core import environment
    present = {new for name, (new, _) in environment.MM_DISTRIBUTIONS.items() if name != missing}
    monkeypatch.setattr(environment, 'installed_distributions', lambda: present)
    assert_mistake(run_tool(tool, ROOT / 'configs' / f'{config}.py'),
                   rf"{missing} not installed, but needed here; run: pip install 'repvgg_seg\[mm\]'")


def test_segmentation_needs_no_mmpretrain(monkeypatch, run_tool):
    from repvgg_seg.core import environment
    present = {new for name, (new, _) in environment.MM_DISTRIBUTIONS.items() if name != 'mmpretrain'}
    monkeypatch.setattr(environment, 'installed_distributions', lambda: present)
    result = run_tool('train', ROOT / 'configs/pspnet_r50_cityscapes.py', '--work-dir', '/dev/null')
    assert_mistake(result, 'folder /dev/null cannot be written')


@pytest.mark.parametrize('tool', sorted(path.stem for path in (ROOT / 'tools').glob('*.py') if path.stem != 'demo'))
def test_help(tool, monkeypatch, capsys):
    import runpy
    monkeypatch.setattr(sys, 'argv', [tool, '--help'])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / 'tools' / f'{tool}.py'), run_name='__main__')
    assert stop.value.code == 0 and 'usage: ' in capsys.readouterr().out


def test_nothing_is_said_of_operators_that_nobody_needs():
    run = subprocess.run([sys.executable, ROOT / 'tools/benchmark.py', 'complexity', 'RepVGG-A0'], text=True,
                         capture_output=True)
    assert run.returncode == 0 and run.stderr == ''
