"""What is built for those who install the package: all of it, and nothing else of the repository."""
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from repvgg_seg import __version__

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[1]
NAME = f'repvgg_seg-{__version__}'
SOURCES = ('repvgg_seg', 'tests', 'tools', 'configs', 'docs')


@pytest.fixture(scope='module')
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """Built as ``python -m build`` does it, from the source distribution, and outside this repository, which stays clean."""
    copy = tmp_path_factory.mktemp('build') / 'copy'
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns('__pycache__'))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
    commands = (['-c', 'from setuptools.build_meta import build_sdist; build_sdist("dist")'],
                ['-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation', '--no-index', '--wheel-dir', 'dist',
                 f'dist/{NAME}.tar.gz'])
    for command in commands:
        done = subprocess.run([sys.executable, *command], cwd=copy, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
    built, = (copy / 'dist').glob('*.whl')
    return zipfile.ZipFile(built)


def test_wheel_holds_the_package_with_the_configs_and_nothing_else(wheel):
    found = {name for name in wheel.namelist() if not name.startswith(f'{NAME}.dist-info/')}
    files = [path.relative_to(ROOT).as_posix() for folder in ('repvgg_seg', 'configs') for path in (ROOT / folder).rglob('*')
             if path.is_file() and '__pycache__' not in path.parts]
    assert found == {f'repvgg_seg/{name}' if name.startswith('configs/') else name for name in files}
    assert {'repvgg_seg/py.typed', 'repvgg_seg/deploy/quick_demo_model/model.pth'} <= found


def test_wheel_brings_the_command(wheel):
    assert wheel.read(f'{NAME}.dist-info/entry_points.txt').decode().split() == [
        '[console_scripts]', 'repvgg-seg', '=', 'repvgg_seg.commands.main:main']


def test_wheel_leaves_torch_and_openmmlab_to_the_extra(wheel):
    lines = wheel.read(f'{NAME}.dist-info/METADATA').decode().splitlines()
    required = [line for line in lines if line.startswith('Requires-Dist: ') and 'extra ==' not in line]
    assert sorted(line.split()[1] for line in required) == ['jinja2', 'numpy', 'pillow', 'rich']
