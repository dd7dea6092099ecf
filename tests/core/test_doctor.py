"""What is said of installations that are not as they should be; a sound one has nothing to complain of."""
import re
import subprocess
import sys
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest

from repvgg_seg.core import doctor
from repvgg_seg.core.doctor import ERROR, INFO, OK, WARNING

NEEDS = ['torch>=2.6; extra == "mm"', 'torchvision>=0.21; extra == "mm"', 'rich', 'onedl-mmcv>=2.3.6; extra == "mm"',
         'onnx; extra == "onnx"', 'pytest; extra == "test"']
VERSIONS = {'torch': '2.8.0', 'torchvision': '0.23.0', 'rich': '15.0.0', 'onedl-mmcv': '2.3.6', 'onnx': '1.2', 'pytest': '9.0'}
Done = namedtuple('Done', 'returncode stdout stderr')


@pytest.fixture
def install(monkeypatch):
    """Pretend that distributions of some versions are installed, and which modules cannot be imported."""

    def pretend(versions: dict, broken: dict = {}, torchvision_needs: str = 'torch==2.8.0') -> None:
        versions = {**VERSIONS, **versions}
        monkeypatch.setattr(doctor, 'version_of', versions.get)
        monkeypatch.setattr(doctor, 'origin', lambda name: 'pip')
        monkeypatch.setattr(metadata, 'requires', lambda name: [torchvision_needs] if name == 'torchvision' else NEEDS)
        monkeypatch.setattr(doctor, 'import_failure', broken.get)

    return pretend


def complaints(findings) -> list[tuple[str, str, str]]:
    return [(finding.state, finding.text, finding.remedy) for finding in findings if finding.state != OK]


def test_sound_installation(install):
    install({})
    assert complaints([*doctor.packages(), *doctor.torch_pair(), *doctor.opencv(), *doctor.extras()]) == []


@pytest.mark.parametrize(('versions', 'broken', 'expected'), [
    ({'torch': '2.5.1'}, {}, (ERROR, 'torch 2.5.1 (pip), needs >=2.6', "pip install 'torch>=2.6'")),
    ({'torch': None}, {}, (ERROR, 'torch: not installed, needs >=2.6', "pip install 'torch>=2.6'")),
    ({'rich': None}, {}, (ERROR, 'rich: not installed', "pip install 'rich'")),
    ({}, {'torchvision': 'RuntimeError: operator torchvision::nms does not exist'},
     (ERROR, 'torchvision 0.23.0 (pip) cannot be imported: RuntimeError: operator torchvision::nms does not exist',
      'pip install --force-reinstall --no-deps torchvision')),
    ({'onedl-mmcv': None, 'mmcv': '2.1.0'}, {'mmcv': 'ImportError: no _ext'},
     (ERROR, 'mmcv 2.1.0 (pip) cannot be imported: ImportError: no _ext', 'pip install --force-reinstall --no-deps mmcv')),
], ids=['old', 'absent', 'absent, any version', 'broken', 'original family, broken'])
def test_packages(install, versions, broken, expected):
    install(versions, broken)
    assert complaints(doctor.packages()) == [expected]


def test_original_family_is_as_good(install):
    install({'onedl-mmcv': None, 'mmcv': '2.1.0'})
    assert complaints(doctor.packages()) == []


@pytest.mark.parametrize(('versions', 'needs', 'state', 'text'), [
    ({'torch': '2.9.0'}, 'torch==2.8.0', ERROR, 'torchvision 0.23.0 needs torch==2.8.0, but torch 2.9.0 is installed'),
    ({'torch': '2.13.0'}, 'torch (>=2.14.0)', ERROR, 'torchvision 0.23.0 needs torch >=2.14.0, but torch 2.13.0 is installed'),
    ({'torch': '2.8.0+cpu', 'torchvision': '0.23.0+cu126'}, 'torch==2.8.0', WARNING,
     'torch 2.8.0+cpu and torchvision 0.23.0+cu126 are builds for different devices'),
])
def test_torch_and_torchvision(install, versions, needs, state, text):
    install(versions, torchvision_needs=needs)
    (found, said, remedy), = complaints(doctor.torch_pair())
    assert (found, said) == (state, text) and remedy.startswith('pip install ')


def test_two_opencvs(install):
    install({'opencv-python': '4.12', 'opencv-python-headless': '4.12'})
    assert complaints(doctor.opencv()) == [(
        WARNING, 'opencv-python and opencv-python-headless overwrite each other',
        'pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python')]


def test_absent_extra(install):
    install({'onnx': None})
    assert complaints(doctor.extras()) == [(INFO, 'extra [onnx]: without onnx', "pip install 'repvgg_seg[onnx]'")]


def test_mixed_families(monkeypatch):
    from repvgg_seg.core import environment
    monkeypatch.setattr(environment, 'installed_distributions', lambda: {'mmengine', 'onedl-mmengine'})
    (state, text, remedy), = complaints(doctor.families())
    assert state == ERROR and 'side by side' in text and remedy.startswith('pip uninstall -y mmengine onedl-mmengine &&')


@pytest.mark.parametrize(('output', 'driver', 'state', 'text'), [
    ('None\n\n', False, INFO, 'no GPU: training'),
    ('None\n\n', True, WARNING, 'an NVIDIA driver, but no GPU .* built without CUDA'),
    ('12.8\n\n', True, WARNING, 'an NVIDIA driver, but no GPU .* built for CUDA 12.8; the driver may be too old'),
    ('12.8\nNVIDIA H100|79|sm_90\nsm_80 sm_90\n', True, OK, 'GPU NVIDIA H100, 79 GB, sm_90$'),
    ('12.8\nNVIDIA B200|190|sm_100\nsm_80 compute_100\n', True, OK, 'sm_100$'),
    ('12.8\nTesla K80|11|sm_37\nsm_80 sm_90\n', True, WARNING, r'sm_37, for which PyTorch is not built \(sm_80 sm_90\)'),
])
def test_gpu(monkeypatch, output, driver, state, text):
    monkeypatch.setattr(doctor, 'run_python', lambda code: Done(0, output, ''))
    monkeypatch.setattr(doctor.shutil, 'which', lambda name: '/usr/bin/nvidia-smi' if driver else None)
    finding, = doctor.gpu()
    assert finding.state == state and re.search(text, finding.text) and bool(finding.remedy) == (state == WARNING)


@pytest.mark.parametrize(('free', 'shared', 'states'), [(6, 8, [OK, OK]), (4, 8, [WARNING, OK]), (6, 0.06, [OK, WARNING])])
def test_space(monkeypatch, free, shared, states):
    Usage = namedtuple('Usage', 'total free')
    monkeypatch.setattr(doctor.shutil, 'disk_usage', lambda path: Usage(shared * 2**30, free * 2**30))
    assert [finding.state for finding in doctor.space(Path())] == states


def test_import_failure_is_the_last_line():
    assert doctor.import_failure('json') is None
    assert doctor.import_failure('no_such_module') == "ModuleNotFoundError: No module named 'no_such_module'"


ALONE = """
import sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = classmethod(
    lambda cls, name, *rest: None if name.partition('.')[0] in ('torch', 'numpy', 'rich', 'mmengine') else find(name, *rest))
sys.argv = ['tools/doctor.py', '--help']
import runpy
runpy.run_path('tools/doctor.py', run_name='__main__')
"""


def test_it_starts_where_nothing_is_installed():
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, '-c', ALONE], capture_output=True, text=True, cwd=root, timeout=600)
    assert done.returncode == 0 and 'usage: ' in done.stdout, done.stderr


@pytest.mark.whole
def test_the_tool(run_doctor):
    code, out, err = run_doctor()
    assert code == 0, out + err
    assert 'ok      torch ' in out and 'CPU: ' in out and 'extra [openvino]: ' in out


@pytest.mark.whole
def test_the_tool_with_a_problem(run_doctor, monkeypatch):
    monkeypatch.setattr(doctor, 'torch_pair', lambda: [doctor.Finding(ERROR, 'a problem', 'a command')])
    code, out, err = run_doctor()
    assert code == 2 and 'error   a problem\n        -> a command\n' in out
    assert err.splitlines()[-1] == 'error: 1 problem(s), see above'


@pytest.fixture
def run_doctor(monkeypatch, capsys):
    """Run the tool, without the seconds that imports in new processes take."""
    import runpy
    monkeypatch.setattr(doctor, 'import_failure', lambda name: None)

    def run() -> tuple[int, str, str]:
        monkeypatch.setattr(sys, 'argv', ['tools/doctor.py'])
        code = 0
        try:
            runpy.run_path(str(Path(__file__).parents[2] / 'tools/doctor.py'), run_name='__main__')
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return run
