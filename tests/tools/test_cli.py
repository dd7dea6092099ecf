"""How the tools treat what goes wrong outside the package."""
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import pytest

from repvgg_seg import cli
from repvgg_seg.errors import DataError, UserError

ROOT = Path(__file__).parents[2]


def failing(error: Exception):
    def main() -> None:
        raise error
    return main


@pytest.mark.parametrize(('error', 'line'), [
    (UserError('two\nlines'), 'error: two lines'),
    (DataError('Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n'
               '  ...\nrepvgg_seg.errors.DataError: image a.png cannot be read'), 'error: image a.png cannot be read'),
    (URLError('no network'), 'error: a download failed (no network); give the file instead'),
])
def test_mistakes_end_in_one_line(capsys, error, line):
    with pytest.raises(SystemExit) as stop:
        cli.run(failing(error))
    assert stop.value.code == cli.USER_MISTAKE
    assert capsys.readouterr().err.startswith(line)


def test_bugs_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.run(failing(ZeroDivisionError()))


@pytest.mark.parametrize('missing', [['mmengine'], ['mmseg']])
def test_missing_packages_end_in_one_line(missing, monkeypatch, capsys):
    from repvgg_seg import environment
    present = {new for name, (new, _) in environment.MM_DISTRIBUTIONS.items() if name not in missing}
    monkeypatch.setattr(environment, 'installed_distributions', lambda: present)
    with pytest.raises(SystemExit):
        cli.run(failing(AssertionError('not reached')))
    assert f"{missing[0]} not installed, but needed here; run: pip install 'repvgg_seg[mm]'" in capsys.readouterr().err


WITHOUT_OPENMMLAB = """
import importlib.metadata, sys
from importlib.machinery import PathFinder

find, distribution = PathFinder.find_spec, importlib.metadata.distribution

def no_distribution(name):
    if 'mm' in name:
        raise importlib.metadata.PackageNotFoundError(name)
    return distribution(name)

PathFinder.find_spec = classmethod(lambda cls, name, *rest: None if name.startswith('mm') else find(name, *rest))
importlib.metadata.distribution = no_distribution
import repvgg_seg
assert not any(name.startswith('mm') for name in sys.modules)
try:
    from repvgg_seg.models import RepVGG
except ImportError as error:
    assert str(error) == "mmengine not installed, but needed here; run: pip install 'repvgg_seg[mm]'", error
else:
    raise AssertionError('the backbone needs MMEngine')
"""


def test_package_without_openmmlab():
    subprocess.run([sys.executable, '-c', WITHOUT_OPENMMLAB], check=True, cwd=ROOT)


@pytest.mark.parametrize('tool', sorted(path.stem for path in (ROOT / 'tools').glob('*.py') if path.stem != 'demo'))
def test_help(tool, monkeypatch, capsys):
    import runpy
    monkeypatch.setattr(sys, 'argv', [tool, '--help'])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / 'tools' / f'{tool}.py'), run_name='__main__')
    assert stop.value.code == 0 and '--cfg-options' in capsys.readouterr().out
