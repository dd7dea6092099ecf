"""What importing the package loads, says and registers, and which of its parts need which OpenMMLab package."""
import subprocess
import sys
from pathlib import Path

import pytest

from repvgg_seg.core.environment import MM_DISTRIBUTIONS

ROOT = Path(__file__).parents[1]


def run(code: str, *options: str) -> str:
    """What a new process writes, which must not fail."""
    done = subprocess.run([sys.executable, *options, '-c', code], capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_import_is_silent():
    assert run('import repvgg_seg', '-W', 'error') == ''


ADDED = """
import sys
before = set(sys.modules)
{statement}
print(*(set(sys.modules) - before))
"""


def added(statement: str) -> set[str]:
    """Modules that a statement loads in a new process."""
    return set(run(ADDED.format(statement=statement)).split())


@pytest.mark.parametrize('statement', ['import repvgg_seg', 'from repvgg_seg.deploy.runtime import load'])
def test_running_exported_models_loads_neither_pytorch_nor_mmengine(statement):
    loaded = added(statement)
    assert not {'torch', 'mmengine', 'mmcv', 'cv2', 'rich'} & loaded
    rooms = {name.split('.')[1] for name in loaded if name.startswith('repvgg_seg.')}
    assert rooms <= {'core', 'deploy', 'registration', 'runtime'}


@pytest.mark.whole
def test_backbone_loads_what_it_needs_and_no_more():
    rooms = {name for name in added('import mmengine, repvgg_seg') if name.startswith('repvgg_seg.')}
    assert 'repvgg_seg.models.repvgg' in rooms
    assert not [name for name in rooms if name.split('.')[1] not in ('core', 'models', 'registration', 'registry')]
    assert not [name for name in rooms if name.startswith(('repvgg_seg.models.psp_head', 'repvgg_seg.models.variants'))]


def test_broken_mmengine_takes_nothing_else_down(tmp_path):
    (tmp_path / 'mmengine.py').write_text('raise OSError("broken")')
    run(f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from repvgg_seg.deploy.runtime import load
try:
    import mmengine
except OSError as error:
    assert str(error) == 'broken'
""")


def test_what_an_installed_mmengine_lacks_is_named(tmp_path):
    (tmp_path / 'mmengine').mkdir()
    (tmp_path / 'mmengine/__init__.py').write_text('import no_such_module')
    run(f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
try:
    import repvgg_seg.registry
except ModuleNotFoundError as error:
    assert error.name == 'no_such_module'
""")


@pytest.mark.whole
@pytest.mark.parametrize('first', ['import repvgg_seg', 'import mmengine, repvgg_seg', 'import repvgg_seg.datasets.loading',
                                   'import importlib.util, repvgg_seg; importlib.util.find_spec("mmengine")',
                                   'from repvgg_seg.models import RepVGG', 'import repvgg_seg.registry',
                                   'import repvgg_seg.core.reading'])
def test_plain_name_is_registered_whatever_is_imported_first(first):
    run(f"""
{first}
from mmengine.registry import MODELS
found = MODELS.get('RepVGG')
from repvgg_seg.models import RepVGG
assert found is RepVGG
""")


@pytest.mark.whole
def test_plain_name_is_found_from_the_root_registry_and_from_mmseg():
    run("""
import repvgg_seg
from mmengine.registry import MODELS, DefaultScope
from repvgg_seg.models import RepVGG
assert MODELS.get('RepVGG') is RepVGG
DefaultScope.get_instance('test', scope_name='mmseg')
assert type(MODELS.build(dict(type='RepVGG', arch='A0', deploy=True))) is RepVGG
""")


@pytest.mark.whole
def test_name_with_scope_is_found_where_nobody_imported_the_package_and_needs_no_mmpretrain():
    run("""
import sys
import torch
from mmengine.registry import MODELS
assert 'repvgg_seg' not in sys.modules
backbone = MODELS.build(dict(type='repvgg_seg.RepVGG', arch='A0')).eval()
head = MODELS.build(dict(type='repvgg_seg.FactorizedPSPHead', in_channels=1280, in_index=-1, channels=8, num_classes=2)).eval()
assert head(backbone(torch.zeros(1, 3, 64, 64))).shape == (1, 2, 2, 2)
assert 'mmpretrain' not in sys.modules
""")


# An import of a module that is None fails, also where it is tried.
WALK = """
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys(['mmcv.ops', 'mmpretrain']))
import repvgg_seg
for module in pkgutil.walk_packages(repvgg_seg.__path__, 'repvgg_seg.'):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        print('FAILED', module.name)
"""
CLASSIFICATION = {'repvgg_seg.ablations.runs', 'repvgg_seg.engine.classification', 'repvgg_seg.models.variants.resnet'}


@pytest.mark.whole
def test_modules_need_no_compiled_operators_and_only_classification_needs_mmpretrain():
    lines = run(WALK, '-W', 'ignore').splitlines()
    assert {line.split()[1] for line in lines if line.startswith('FAILED')} == CLASSIFICATION


def test_no_function_imports_compiled_operators():
    assert not [path for path in (ROOT / 'repvgg_seg').rglob('*.py') if 'mmcv.ops' in path.read_text()]


MISSING = """
import importlib, importlib.metadata, sys
from importlib.machinery import PathFinder

find, distribution = PathFinder.find_spec, importlib.metadata.distribution
PathFinder.find_spec = classmethod(lambda cls, name, *rest: None if name in {hidden} else find(name, *rest))

def no_distribution(name):
    if name in {distributions}:
        raise importlib.metadata.PackageNotFoundError(name)
    return distribution(name)

importlib.metadata.distribution = no_distribution
import repvgg_seg
assert not {hidden} & set(sys.modules)
for module, name in {parts}:
    try:
        getattr(importlib.import_module('repvgg_seg.' + module), name)
    except ImportError as error:
        print(type(error).__name__, error)
"""


def missing(hidden: set[str], *parts: tuple[str, str]) -> list[str]:
    """What asking for names in modules says where some OpenMMLab packages are not installed."""
    distributions = [name for package in hidden for name in (MM_DISTRIBUTIONS[package][0], *MM_DISTRIBUTIONS[package][1])]
    return run(MISSING.format(hidden=hidden, distributions=distributions, parts=parts)).splitlines()


@pytest.mark.whole
def test_package_without_openmmlab_imports_and_says_what_its_parts_need():
    parts = ('models', 'RepVGG'), ('registry', 'MODELS'), ('checkpoints', 'load_pretrained'), ('deploy', 'fuse')
    assert missing(set(MM_DISTRIBUTIONS), *parts) == [
        "InstallationError mmengine not installed, but needed here; run: pip install 'repvgg_seg[mm]'"] * len(parts)


@pytest.mark.whole
def test_parts_say_which_other_package_they_need():
    parts = (('datasets', 'LoadImage'), ('datasets', 'RandomGaussianBlur'), ('datasets', 'CityscapesDataset'),
             ('datasets', 'CamVidDataset'), ('models', 'FactorizedPSPHead'), ('engine.classification', 'train_classifier'),
             ('models.variants.resnet', 'ResNetRepVGG'))
    lines = missing({'mmcv', 'mmseg', 'mmpretrain'}, *parts)
    assert [line.split(' not installed, but needed here; run: ')[0] for line in lines] == [
        'InstallationError mmcv', 'InstallationError mmcv', *['InstallationError mmcv, mmseg'] * 3,
        'InstallationError mmpretrain', 'InstallationError mmcv, mmpretrain']
