"""No command opens a connection or leaves a file in the home folder that nobody asked for."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from exports import skip_without

from repvgg_seg.core import telemetry

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[2]
# Python runs it at the start of each process that finds it, so in all children: who connects is written down, and fails.
SITE = """
import os, socket, traceback

def refuse(*arguments):
    with open(os.environ['ATTEMPTS'], 'a') as file:
        file.write(f'{arguments[-1]}\\n' + ''.join(traceback.format_stack(limit=8)))
    raise OSError('no connections here')

def guard(original):
    def connect(self, address):
        return original(self, address) if self.family == socket.AF_UNIX else refuse(address)
    return connect

socket.socket.connect = guard(socket.socket.connect)
socket.socket.connect_ex = guard(socket.socket.connect_ex)
lookup = socket.getaddrinfo

def resolve(host, *arguments, **options):  # A server looks up the address that it binds, for which it asks nobody.
    return lookup(host, *arguments, **options) if host == '127.0.0.1' else refuse(host)

socket.getaddrinfo, socket.gethostbyname = resolve, refuse
"""
# Cache files that say nothing about the user: of fonts, of compiled code and of the formatter of configs.
CACHES = {'matplotlib', 'YAPF', 'pip', 'torch', 'torch_extensions'}


@pytest.fixture
def watched(tmp_path) -> dict[str, str]:
    """An environment in which connecting fails and is written down, with an empty home folder."""
    for name in ('home', 'site'):
        (tmp_path / name).mkdir()
    (tmp_path / 'site/sitecustomize.py').write_text(SITE)
    given = {name: value for name, value in os.environ.items()
             if name not in (telemetry.SWITCH, *telemetry.VARIABLES) and not name.startswith('XDG_')}
    return dict(given, HOME=str(tmp_path / 'home'), ATTEMPTS=str(tmp_path / 'attempts'),
                PYTHONPATH=os.pathsep.join((str(tmp_path / 'site'), str(ROOT), str(ROOT / 'tests'))))


def attempts(environment: dict[str, str]) -> str:
    path = Path(environment['ATTEMPTS'])
    return path.read_text() if path.exists() else ''


def left_at_home(environment: dict[str, str]) -> list[str]:
    home = Path(environment['HOME'])
    files = [path.relative_to(home) for path in home.rglob('*') if path.is_file()]
    return [str(path) for path in files if not CACHES & set(path.parts)]


COMMANDS = """
import os, runpy, signal, sys, threading
config, checkpoint, streets, classifier_config, classifier, out, export = sys.argv[1:]
images = f'{streets}/leftImg8bit/val'

def tool(name, *arguments):
    sys.argv = [f'{name}.py', *arguments]
    try:
        runpy.run_path(f'tools/{name}.py', run_name='__main__')
    except SystemExit as end:
        assert not end.code, (name, end.code)

small = ['--cfg-options', 'train_cfg.max_epochs=1']
if export == 'yes':
    tool('deploy', config, checkpoint, '--out', f'{out}/exported', '--formats', 'onnx', 'openvino', '--precision', 'int8')
    tool('test', config, f'{out}/exported/model.int8.onnx', '--work-dir', f'{out}/onnx')
    tool('predict', config, f'{out}/exported/model.int8.xml', images, '--out', f'{out}/exported_pictures')
    tool('benchmark', 'artefacts', config, checkpoint, f'{out}/exported', '--size', '48', '64', '--rounds', '2',
         '--warm-up', '1')
    threading.Timer(20, os.kill, (os.getpid(), signal.SIGINT)).start()
    tool('serve', f'{out}/exported/model.int8.onnx', '--port', '0')
else:
    tool('train', config, '--work-dir', f'{out}/run', *small)
    tool('test', config, checkpoint, '--work-dir', f'{out}/test', '--report', f'{out}/report')
    tool('predict', config, checkpoint, images, '--out', f'{out}/pictures')
    tool('deploy', config, checkpoint, '--out', f'{out}/fused')
    tool('prune', config, checkpoint, '--out', f'{out}/pruned', '--keep', '0.6', '--images', '4', '--multiple', '2')
    tool('init', streets, '--out', f'{out}/mine.py', '--weights', 'none', '--epochs', '1')
    tool('make_labels', f'{out}/polygons', '--out', f'{out}/labels')
    tool('check_data', config)
    tool('doctor')
    tool('configs')
    tool('demo', '--quick')
    tool('plot_curves', f'{out}/run', '--out', f'{out}/curves.png')
    tool('classify_train', classifier_config, '--work-dir', f'{out}/classifier', *small)
    tool('classify_test', classifier_config, classifier, '--work-dir', f'{out}/classified')
    tool('train_ablations', classifier_config, '--work-dir', f'{out}/ablations', '--variants', 'plain', *small)
    tool('convert_weights', classifier, f'{out}/converted.pth')
    tool('benchmark', 'complexity', 'RepVGG-A0')
    tool('benchmark', 'loader', config, '--images', '4')
"""


@pytest.mark.situation('Hostile or broken files', 'usage data of OpenVINO, NNCF and ONNX Runtime',
                       before='sent by default, with a client id and a counter in the home folder',
                       now='no command opens a connection; `REPVGG_SEG_TELEMETRY=1` allows it')
@pytest.mark.parametrize('export', ['no', pytest.param('yes', marks=pytest.mark.slow)])
def test_no_command_connects(watched, config, checkpoint, streets, classifier_config, classifier_checkpoint, tmp_path, export):
    if export == 'yes':
        skip_without('onnx', 'onnxscript', 'onnxruntime', 'openvino', 'nncf')
    (tmp_path / 'polygons').mkdir()
    shape = {'label': 'road', 'shape_type': 'polygon', 'points': [[0, 0], [8, 0], [8, 8]]}
    (tmp_path / 'polygons/a.json').write_text(json.dumps(
        {'shapes': [shape], 'imagePath': 'a.jpg', 'imageHeight': 16, 'imageWidth': 16}))
    arguments = (config, checkpoint, streets, classifier_config, classifier_checkpoint, tmp_path, export)
    done = subprocess.run([sys.executable, '-c', COMMANDS, *map(str, arguments)], cwd=ROOT, env=watched, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert attempts(watched) == ''
    assert left_at_home(watched) == []


def test_every_tool_is_watched():
    connecting = {'push'}  # By its purpose.
    assert set(re.findall(r"tool\('(\w+)'", COMMANDS)) == {path.stem for path in (ROOT / 'tools').glob('*.py')} - connecting


def test_that_connecting_would_be_noticed(watched):
    """In a process and in its child."""
    for code in ('import socket; socket.create_connection(("127.0.0.1", 9))',
                 'import subprocess, sys; subprocess.run([sys.executable, "-c", "import urllib.request as r; '
                 'r.urlopen(\'http://a\')"])'):
        before = attempts(watched)
        subprocess.run([sys.executable, '-c', code], env=watched, capture_output=True)
        assert len(attempts(watched)) > len(before)


@pytest.fixture
def untouched(monkeypatch) -> None:
    """No variable set, and the sender not imported."""
    for name in (telemetry.SWITCH, *telemetry.VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, telemetry.SENDER, None)
    monkeypatch.delitem(sys.modules, telemetry.SENDER)


def test_switched_off_for_this_process_and_its_children(untouched, monkeypatch):
    monkeypatch.setenv('DO_NOT_TRACK', '0')  # The user's own.
    telemetry.switch_off()
    assert {name: os.environ[name] for name in telemetry.VARIABLES} == {**telemetry.VARIABLES, 'DO_NOT_TRACK': '0'}
    with pytest.raises(ImportError):
        __import__(telemetry.SENDER)


def test_the_user_may_switch_it_on(untouched, monkeypatch):
    monkeypatch.setenv(telemetry.SWITCH, '1')
    telemetry.switch_off()
    assert telemetry.SENDER not in sys.modules and not set(telemetry.VARIABLES) & set(os.environ)


CONVERTING = """
import sys
from repvgg_seg.core.telemetry import switch_off
switch_off()
import onnx, onnxruntime, openvino
from onnx import helper
values = [helper.make_tensor_value_info(name, 1, [1]) for name in 'xy']
graph = helper.make_graph([helper.make_node('Relu', ['x'], ['y'])], 'g', values[:1], values[1:])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=9), sys.argv[1])
openvino.convert_model(sys.argv[1])
onnxruntime.InferenceSession(sys.argv[1])
import nncf
"""


def test_packages_that_would_send_do_not(watched, tmp_path):
    skip_without('onnx', 'onnxruntime', 'openvino', 'nncf')
    done = subprocess.run([sys.executable, '-c', CONVERTING, str(tmp_path / 'a.onnx')], env=watched, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert attempts(watched) == '' and left_at_home(watched) == []
