"""Which OpenMMLab packages are accepted, and what is said where they are not."""
import re
import shlex
from importlib import metadata

import pytest

from repvgg_seg.core import environment
from repvgg_seg.core.environment import installed_distributions, require_mm
from repvgg_seg.core.errors import InstallationError, UserError

ORIGINAL = {'mmengine', 'mmcv', 'mmsegmentation', 'mmpretrain'}
ONEDL = {'onedl-mmengine', 'onedl-mmcv', 'onedl-mmsegmentation', 'onedl-mmpretrain'}
ALL_PACKAGES = ('mmengine', 'mmcv', 'mmseg', 'mmpretrain')


@pytest.fixture
def install(monkeypatch):
    return lambda names: monkeypatch.setattr(environment, 'installed_distributions', lambda: {'torch', *names})


@pytest.mark.parametrize('names', [
    ORIGINAL, ONEDL, ORIGINAL - {'mmcv'} | {'mmcv-lite'},
    ORIGINAL - {'mmcv', 'mmengine'} | {'mmcv-full', 'mmengine-lite'},
], ids=['original', 'onedl', 'lite', 'full'])
def test_one_family_is_accepted(names, install):
    install(names)
    assert require_mm(*ALL_PACKAGES) is None


@pytest.mark.parametrize('packages', [(), ('mmengine', ), ('mmengine', 'mmcv')], ids=str)
def test_only_what_is_asked_for_is_needed(packages, install):
    install({'onedl-mmengine', 'onedl-mmcv'})
    assert require_mm(*packages) is None


@pytest.mark.parametrize('names, packages, missing, command', [
    (set(), ('mmengine', 'mmcv', 'mmseg'), 'mmengine, mmcv, mmseg', "pip install 'repvgg_seg[mm]'"),
    (ONEDL - {'onedl-mmcv'}, ('mmengine', 'mmcv'), 'mmcv', "pip install 'repvgg_seg[mm]'"),
    (ORIGINAL - {'mmsegmentation'}, ('mmengine', 'mmseg'), 'mmseg', 'pip install mmsegmentation'),
    ({'mmengine'}, ('mmcv', 'mmseg', 'mmpretrain'), 'mmcv, mmseg, mmpretrain',
     'pip install mmcv mmsegmentation mmpretrain'),
    ({'mmcv-lite'}, ('mmengine', 'mmcv'), 'mmengine', 'pip install mmengine'),
], ids=['nothing', 'onedl', 'original', 'engine only', 'lite only'])
def test_missing_package_is_told_with_the_command(names, packages, missing, command, install):
    install(names)
    with pytest.raises(InstallationError) as raised:
        require_mm(*packages)
    assert str(raised.value) == f'{missing} not installed, but needed here; run: {command}'


@pytest.mark.parametrize('names', [ORIGINAL | ONEDL, {'mmcv-lite'} | ONEDL, {'mmcv', 'onedl-mmengine'}],
                         ids=['both', 'one more', 'one of each'])
@pytest.mark.parametrize('packages', [ALL_PACKAGES, ()], ids=['all', 'none'])
def test_mixed_families_are_told_with_the_command(names, packages, install):
    install(names)
    with pytest.raises(InstallationError, match='side by side') as raised:
        require_mm(*packages)
    command = re.search('pip uninstall -y (.*) && pip install -r requirements.txt$', str(raised.value))
    assert set(shlex.split(command[1])) == names


def test_error_is_an_import_error_that_a_user_can_mend():
    assert issubclass(InstallationError, ImportError) and issubclass(InstallationError, UserError)


def test_installed_distributions_are_those_with_metadata(monkeypatch):
    def distribution(name: str) -> None:
        if name not in {'mmcv', 'onedl-mmengine', 'torch'}:
            raise metadata.PackageNotFoundError(name)
    monkeypatch.setattr(metadata, 'distribution', distribution)
    assert installed_distributions.__wrapped__() == {'mmcv', 'onedl-mmengine'}
