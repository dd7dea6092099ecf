"""What cannot be served is told in one line, before a port is bound."""
import json
import socket
import sys

import pytest
from mistakes import assert_error_line
from served import stand_in

pytest.importorskip('fastapi', reason='needs the extra [serve]')

ENTRY = dict(format='onnx', precision='fp32', size=None, output='labels')
REPORT = dict(classes=['a', 'b'], palette=[[0, 0, 0], [1, 1, 1]], channels='RGB', min_size=16,
              artefacts={'model.fp32.onnx': ENTRY})


def exported(folder, **changes):
    """A folder with a file that a backend need not read."""
    (folder / 'deploy.json').write_text(json.dumps({**REPORT, **changes}))
    (folder / 'model.fp32.onnx').touch()
    return folder


@pytest.fixture(autouse=True)
def no_backend(monkeypatch):
    monkeypatch.setattr('repvgg_seg.runtime.predictor.load_file', lambda *_: stand_in().run)


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(task='classification'), '{} is a classifier; only segmentors can be served'),
    (dict(artefacts={'model.fp32.onnx': {**ENTRY, 'output': 'logits'}}),
     '{} returns logits; expected class indices, so export it without --logits'),
    (dict(channels=None, in_channels=8), '{} takes images of 8 channels, but PNG and JPEG files have 1 or 3 of them')])
def test_other_models(run_tool, tmp_path, changes, message):
    assert_error_line(run_tool('serve', exported(tmp_path, **changes)), f'error: {message.format(tmp_path)}')


def test_programs_are_not_trusted(run_tool, tmp_path):
    file = exported(tmp_path) / 'model.fp32.pt2'
    assert_error_line(run_tool('serve', file), f'error: {file} is a program, which can run any code; if you know who made it, '
                      'add --trust-checkpoint, else use another format')


def test_a_port_in_use(run_tool, tmp_path):
    with socket.create_server(('127.0.0.1', 0)) as other:
        port = other.getsockname()[1]
        assert_error_line(run_tool('serve', exported(tmp_path), '--port', port),
                          f'error: port {port} of 127.0.0.1 cannot be bound (Address already in use); choose another one with '
                          '--port or --host')


def test_a_tile_that_the_model_does_not_take(run_tool, tmp_path):
    assert_error_line(run_tool('serve', exported(tmp_path), '--tile', '8', '64'),
                      'error: tile must be height and width, 16 or more each, got (8, 64)')


def test_an_impossible_port(run_tool, tmp_path):
    assert_error_line(run_tool('serve', tmp_path, '--port', '70000'),
                      "error: argument --port: expected a whole number from 0 to 65535, got 70000; see --help")


@pytest.mark.parametrize('package', ['fastapi', 'uvicorn'])
def test_without_the_extra(run_tool, tmp_path, monkeypatch, package):
    for name in [name for name in sys.modules if name.split('.')[0] == package or name == 'repvgg_seg.serving.app']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert_error_line(run_tool('serve', exported(tmp_path)),
                      f"error: {package} is not installed; run: pip install 'repvgg_seg[serve]'")
