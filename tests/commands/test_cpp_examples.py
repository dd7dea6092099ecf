"""The programs of examples/cpp write the label maps that ``predict`` writes."""
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tiny
from exports import skip_without
from mmengine.config import Config
from PIL import Image

from repvgg_seg.datasets.toy import draw_scene
from repvgg_seg.deploy.deploying import deploy
from repvgg_seg.deploy.formats import ExportRequest
from repvgg_seg.deploy.quick_demo import MODEL
from repvgg_seg.runtime.predictor import load

SOURCES = tiny.ROOT / 'examples/cpp'
SIZE = (128, 256)
FILES = {'onnxruntime': ('model.fp32.onnx', {}), 'opencv': ('model.fp32.opencv.onnx', dict(size=SIZE))}
pytestmark = pytest.mark.whole


@pytest.fixture(scope='module')
def built(tmp_path_factory) -> tuple[Path, str]:
    """Folder of the programs, and what CMake says about those that it leaves out."""
    for tool in ('cmake', 'c++'):
        if shutil.which(tool) is None:
            pytest.skip(f'needs {tool}')
    folder = tmp_path_factory.mktemp('build')
    root = os.environ.get('ONNXRUNTIME_ROOT', '')
    options = [f'-DONNXRUNTIME_ROOT={root}', '-DCMAKE_BUILD_TYPE=Debug']
    configured = subprocess.run(['cmake', '-S', SOURCES, '-B', folder, *options], capture_output=True, text=True, timeout=300)
    if 'OpenCVConfig.cmake' in configured.stderr:
        pytest.skip('needs OpenCV for C++')
    assert configured.returncode == 0, configured.stderr
    compiled = subprocess.run(['cmake', '--build', folder], capture_output=True, text=True, timeout=600)
    assert compiled.returncode == 0 and 'warning' not in compiled.stdout + compiled.stderr, compiled.stdout + compiled.stderr
    return folder, configured.stdout


@pytest.fixture(scope='module')
def scene(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('scene') / 'scene.png'
    Image.fromarray(draw_scene(4_000_000)[0]).save(path)
    return path


@pytest.fixture(scope='module', params=FILES)
def example(request, built, scene, tmp_path_factory) -> tuple[Path, Path]:
    """A program, and an exported file that it takes."""
    folder, said = built
    if not (program := folder / request.param).is_file():
        pytest.skip(next(line for line in said.splitlines() if f'{request.param} is not built' in line))
    skip_without('onnx', 'onnxscript', 'onnxruntime')
    name, options = FILES[request.param]
    out = tmp_path_factory.mktemp('exported') / 'out'
    deploy(Config.fromfile(MODEL / 'config.py'), str(MODEL / 'model.pth'), out,
           ExportRequest((('onnx' if request.param == 'onnxruntime' else 'opencv'), ), images=str(scene), **options))
    return program, out / name


def run(*arguments: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run([*map(str, arguments)], capture_output=True, text=True, timeout=60)


def test_label_map_is_the_one_of_predict(example, scene, run_tool, tmp_path):
    program, file = example
    done = run(program, scene, file, tmp_path / 'labels.png')
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
    result = run_tool('predict', MODEL / 'config.py', file, scene, '--out', tmp_path / 'pictures', '--labels-only')
    assert result.code == 0, result.err
    found, expected = (np.asarray(Image.open(path)) for path in (tmp_path / 'labels.png', tmp_path / 'pictures/scene.png'))
    assert found.dtype == np.uint8 and len(np.unique(found)) > 5, 'a label map of few classes shows nothing'
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found, load(file)(np.asarray(Image.open(scene))))


def test_mistakes_end_in_one_line(example, scene, tmp_path):
    program, file = example
    out, damaged = tmp_path / 'labels.png', tmp_path / 'damaged.onnx'
    damaged.write_bytes(file.read_bytes()[1000:])
    (tmp_path / 'text.png').write_text('text')
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(tmp_path / 'small.png')
    mistakes = [
        ((tmp_path / 'none.png', file, out), f'error: {tmp_path / "none.png"} is not a picture that can be read'),
        ((tmp_path / 'text.png', file, out), f'error: {tmp_path / "text.png"} is not a picture that can be read'),
        ((scene, tmp_path / 'none.onnx', out), f'error: {tmp_path / "none.onnx"} cannot be read'),
        ((scene, file, tmp_path / 'none/labels.png'), f'error: {tmp_path / "none/labels.png"} cannot be written'),
        ((scene, damaged, out), 'error: '), ((scene, scene, out), 'error: '),
        ((scene, file, tmp_path / 'labels.xyz'), 'error: ')]
    if program.name == 'opencv':
        mistakes.append(((tmp_path / 'small.png', file, out), 'error: the model takes pictures of [128, 256] pixels, the '
                         'picture has [3, 4]; resize it, or export the model for its size'))
    for arguments, expected in mistakes:
        done = run(program, *arguments)
        message, = done.stderr.splitlines()
        assert done.returncode == 1 and message.startswith(expected) and expected in ('error: ', message), message
    done = run(program, scene)
    assert done.returncode == 2 and done.stderr.startswith('usage: ') and done.stderr.count('\n') == 1
    assert not out.exists()
