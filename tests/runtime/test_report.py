"""deploy.json and the files beside it are checked before they are believed."""
import json
import re

import numpy as np
import pytest

from repvgg_seg.core.errors import UserError
from repvgg_seg.runtime import predictor as runtime
from repvgg_seg.runtime.predictor import load, sha256_of

ENTRY = dict(precision='fp32', size=None, output='labels')
INFO = dict(classes=['a', 'b'], palette=[[0, 0, 0], [255, 255, 255]], channels='RGB', min_size=41)


def write(folder, artefacts, **changes) -> None:
    (folder / 'deploy.json').write_text(json.dumps({**INFO, 'artefacts': artefacts, **changes}))


@pytest.mark.situation('Hostile or broken files', 'deploy.json is empty, null, a list, or lacks keys',
                       before='13 of 23 broken forms ended in a traceback', now='one line that names the file and the fault')
@pytest.mark.parametrize(('text', 'problem'), [
    ('', 'cannot be read (Expecting value: line 1 column 1 (char 0))'),
    ('null', 'is broken: it holds null, not an object'),
    ('[]', 'is broken: it holds a list, not an object'),
    ('[' * 100000, None),
    ('{"artefacts": []}', 'is broken: artefacts is of type list, not an object'),
    ('{"artefacts": {"m.onnx": 3}}', 'is broken: the entry of m.onnx is of type int, not an object'),
    ('{"artefacts": {"m.onnx": {"precision": "fp32", "output": "labels", "batch": 0}}}',
     'is broken: the batch of m.onnx is 0, neither null nor a number of images'),
    ('{"artefacts": {"m.onnx": {}}}', "is broken: the precision of m.onnx is None, none of fp32, fp16, bf16, int8"),
])
def test_broken_reports_are_one_line(text, problem, tmp_path):
    (tmp_path / 'deploy.json').write_text(text)
    message = re.escape(f'{tmp_path / "deploy.json"} {problem}') if problem else 'cannot be read'
    ending = '; expected what repvgg-seg deploy writes: export again$' if problem else ''
    with pytest.raises(UserError, match=message + ending):
        load(tmp_path)


@pytest.mark.parametrize('change', [
    dict(classes=None), dict(classes=[]), dict(classes='ab'), dict(classes=[1, 2]), dict(palette=[[0, 0, 0]]),
    dict(palette=[[0, 0, 0], [0, 0, 256]]), dict(channels='XYZ'), dict(min_size=0), dict(min_size=True), dict(min_size=1.5),
    dict(task='detection'), dict(task=['segmentation']), dict(dtype='float32'), dict(dtype=None), dict(dtype=['uint8']),
], ids=str)
def test_what_a_predictor_needs_must_be_there(change, tmp_path):
    write(tmp_path, {'m.onnx': ENTRY}, **change)
    with pytest.raises(UserError, match=rf'deploy.json is broken: {next(iter(change))} is .*export again$'):
        load(tmp_path)


@pytest.mark.situation('Hostile or broken files', 'deploy.json names files outside its folder',
                       before='they were loaded', now='one line: nothing but plain file names')
@pytest.mark.parametrize('name', ['../m.onnx', '/tmp/m.onnx', 'a/m.onnx', 'a\\m.onnx', '..', '', 'm.exe', 'C:m.onnx'])
def test_names_stay_in_the_folder(name, tmp_path):
    write(tmp_path, {name: ENTRY})
    message = f'{name!r} is not a plain file name ending in .xml, .onnx, .pt2, .param, .opencv.onnx, .tflite, .pte, .aoti.pt2'
    with pytest.raises(UserError, match=re.escape(message)):
        load(tmp_path)


@pytest.mark.situation('Hostile or broken files', 'a folder holds only a .pt2 file, which is a program',
                       before='it was loaded, and its code could run', now='it is loaded only where it is named')
def test_a_program_is_loaded_only_by_its_name(tmp_path, monkeypatch):
    write(tmp_path, {'m.pt2': ENTRY})
    (tmp_path / 'm.pt2').touch()
    message = (f'{tmp_path} holds m.pt2 only, which is a program and can run any code; if you exported it yourself, load it by '
               f'its name: {tmp_path / "m.pt2"}')
    with pytest.raises(UserError, match=f'^{re.escape(message)}$'):
        load(tmp_path)
    monkeypatch.setattr(runtime, 'load_file', lambda path, precision, threads: lambda images: images[..., 0])
    assert load(tmp_path / 'm.pt2')(np.zeros((50, 50, 3), np.uint8)).shape == (50, 50)


@pytest.mark.situation('Silently wrong', 'weights of a deployed folder are changed or swapped',
                       before='they were loaded', now='one line: the sha256 is compared; load(..., verify=False) takes them')
@pytest.mark.parametrize(('name', 'changed'), [
    ('m.onnx', 'm.onnx'), ('m.xml', 'm.xml'), ('m.xml', 'm.bin'), ('m.ncnn.param', 'm.ncnn.bin')])
def test_changed_files_are_noticed(name, changed, tmp_path, monkeypatch):
    path = tmp_path / name
    for part in {name, changed, *(['m.bin'] if name == 'm.xml' else [])}:
        (tmp_path / part).write_bytes(b'weights')
    write(tmp_path, {name: dict(ENTRY, sha256=sha256_of(path))})
    monkeypatch.setattr(runtime, 'load_file', lambda path, precision, threads: lambda images: images[..., 0])
    load(path)
    (tmp_path / changed).write_bytes(b'others')
    with pytest.raises(UserError, match=r'is not the file that was exported: its sha256 begins with \w{12}, the one in '
                                        r'deploy.json with \w{12}; copy or export it again, or load it as it is with '
                                        r'--trust-checkpoint, in Python with load\(..., verify=False\)$'):
        load(path)
    load(path, verify=False)
    if changed != name:
        (tmp_path / changed).unlink()
        with pytest.raises(UserError, match=f'has its weights in {changed}, which is not beside it; copy both files$'):
            load(path)


@pytest.mark.parametrize(('name', 'module'), [('m.onnx', 'onnxruntime'), ('m.xml', 'openvino'), ('m.pt2', 'torch')])
@pytest.mark.parametrize('content', [b'', b'garbage', bytes(1000)], ids=['empty', 'text', 'zeros'])
def test_files_that_a_backend_cannot_read_are_one_line(name, module, content, tmp_path):
    pytest.importorskip(module)
    write(tmp_path, {name: ENTRY})
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf'^{re.escape(str(tmp_path / name))} cannot be loaded by {module} \(.*\); copy or '
                                        'export it again$'):
        load(tmp_path / name)
