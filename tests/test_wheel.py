"""What is built for those who install the package: all of it, and nothing else of the repository."""
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from mmengine.config import Config

from repvgg_seg import __version__
from repvgg_seg.commands import cli
from repvgg_seg.core import configs
from repvgg_seg.core.errors import UserError

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
        done = subprocess.run([sys.executable, *command], cwd=copy, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    built, = (copy / 'dist').glob('*.whl')
    return zipfile.ZipFile(built)


def test_wheel_holds_the_package_and_nothing_else(wheel):
    found = {name for name in wheel.namelist() if not name.startswith(f'{NAME}.dist-info/')}
    assert found == {str(path.relative_to(ROOT)) for path in (ROOT / 'repvgg_seg').rglob('*')
                     if path.is_file() and '__pycache__' not in path.parts}
    assert 'repvgg_seg/py.typed' in found


def test_wheel_leaves_torch_and_openmmlab_to_the_extra(wheel):
    lines = wheel.read(f'{NAME}.dist-info/METADATA').decode().splitlines()
    required = [line for line in lines if line.startswith('Requires-Dist: ') and 'extra ==' not in line]
    assert sorted(line.split()[1] for line in required) == ['numpy', 'pillow', 'rich']


def test_configs_that_are_not_installed_are_told(tmp_path, monkeypatch):
    from repvgg_seg.ablations import runs as ablations
    message = rf'config {tmp_path}/configs/\S+ does not exist: the installed package has no configs; clone the repository'
    recipe = Config.fromfile(configs.CONFIGS / 'ablations/b0_cifar10.py')
    for module in (configs, ablations, cli):
        monkeypatch.setattr(module, 'CONFIGS', tmp_path / 'configs')
    with pytest.raises(UserError, match=message):
        ablations.variant_of(recipe, 'plain')
    with pytest.raises(UserError, match=message):
        cli.load_config(cli.config_parser('', default_config='a.py').parse_args([]), 'mmpretrain')
    with pytest.raises(UserError, match='config configs/a.py does not exist; expected a file such as those in configs/'):
        configs.existing_config('configs/a.py')
