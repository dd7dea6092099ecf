"""Exported files say themselves what they are, in a place that their runtime and other programs read."""
import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from repvgg_seg.core.errors import UserError
from repvgg_seg.runtime import predictor as runtime
from repvgg_seg.runtime import protobuf_metadata
from repvgg_seg.runtime.backends import BACKENDS, backend_of
from repvgg_seg.runtime.coreml import SPECIFICATION, SUFFIX
from repvgg_seg.runtime.description import FIELDS, description_of, sidecar_of, write_sidecar
from repvgg_seg.runtime.predictor import load, sha256_of

RECORD = dict.fromkeys(FIELDS) | dict(
    task='segmentation', classes=['a "quoted" <name> & more', 'straße'], palette=[[0, 0, 0], [255, 255, 255]], channels='RGB',
    in_channels=3, dtype='uint8', min_size=41, mean=[1., 2., 3.], source_sha256='0' * 64)
ENTRY = dict(format='onnx', precision='fp32', size=[48, 64], batch=1, output='labels', changed=1e-4, bytes=10, sha256='1' * 64)
NAMES = [f'm{suffix}' for suffix in BACKENDS]


def write(path: Path) -> None:
    """Files that are as empty as their formats allow."""
    if path.suffix == SUFFIX:
        network_of(path).parent.mkdir(parents=True)
        author = protobuf_metadata._field(100, protobuf_metadata._field(3, b'author'))
        network_of(path).write_bytes(protobuf_metadata._field(2, author) * 2)
    elif path.suffix == '.xml':
        path.write_text('<?xml version="1.0"?>\n<net name="x"><layers /><rt_info><conversion_parameters /></rt_info></net>\n')
        path.with_suffix('.bin').write_bytes(b'weights')
    elif path.suffix == '.pt2':
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('program/archive_format', 'pt2')
    else:
        path.write_bytes(protobuf_metadata._field(7, b'graph') * 3 if path.suffix == '.onnx' else b'7767517\n0 0\n')
        if path.suffix == '.param':
            path.with_suffix('.bin').write_bytes(b'weights')


def network_of(path: Path) -> Path:
    """The file that has the network."""
    return path / SPECIFICATION if path.suffix == SUFFIX else path


def describe(path: Path, **changes) -> None:
    record = {**RECORD, 'artefacts': {path.name: {**ENTRY, **changes.pop('entry', {})}}, **changes}
    backend_of(path).describe(path, description_of(record, path.name))


@pytest.fixture
def no_backend(monkeypatch):
    """A stand-in for all backends."""
    monkeypatch.setattr(runtime, 'load_file', lambda path, precision, setting: lambda images: images[..., 0])


@pytest.mark.parametrize('name', NAMES)
def test_a_file_alone_is_loaded_under_any_name(name, tmp_path, no_backend):
    write(tmp_path / name)
    before = network_of(tmp_path / name).read_bytes()
    describe(tmp_path / name)
    other = tmp_path / f'renamed{name.removeprefix("m")}'
    for part in [path for path in tmp_path.iterdir()]:
        part.rename(part.with_name(part.name.replace('m.', 'renamed.', 1)))
    predictor = load(other)
    assert predictor.classes == tuple(RECORD['classes']) and predictor.size == (48, 64) and predictor.channels == 'RGB'
    assert predictor.artifact == {key: value for key, value in ENTRY.items() if key not in ('bytes', 'sha256')}
    assert predictor(np.zeros((50, 70, 3), np.uint8)).shape == (50, 70)
    assert sidecar_of(other).is_file() == (backend_of(other).describe is write_sidecar)
    if other.suffix != '.xml':
        assert network_of(other).read_bytes().startswith(before[:30]), 'the network stays as it is'


@pytest.mark.situation('Hostile or broken files', 'an exported file without deploy.json and without a readable description',
                       before='only whole folders could be loaded', now='the file describes itself; otherwise, one line')
@pytest.mark.parametrize('name', NAMES)
def test_files_without_a_description_are_one_line(name, tmp_path, no_backend):
    path = tmp_path / name
    write(path)
    expected = 'expected a file that repvgg-seg deploy wrote: export it again, or copy its deploy.json beside it'
    with pytest.raises(UserError, match=f'^{re.escape(f"{path} has no description; {expected}")}$'):
        load(path)
    for content in (b'', b'garbage', os.urandom(100)):
        network_of(path).write_bytes(content)
        with pytest.raises(UserError, match=rf'^{re.escape(str(path))} has no description( that can be read \(.*\))?; '
                                            f'{re.escape(expected)}$'):
            load(path)


@pytest.mark.parametrize(('changes', 'problem'), [
    (dict(classes=[]), 'classes is of type list, not a list of names'),
    (dict(channels='XYZ'), "channels is 'XYZ', neither RGB nor BGR"),
    (dict(entry=dict(precision='fp8')), "the precision of m.onnx is 'fp8', none of fp32, fp16, bf16, int8"),
    (dict(entry=dict(size='large')), "the size of m.onnx is 'large', neither null nor height and width"),
])
def test_descriptions_are_checked_like_deploy_json(changes, problem, tmp_path):
    write(tmp_path / 'm.onnx')
    describe(tmp_path / 'm.onnx', **changes)
    with pytest.raises(UserError, match=re.escape(f'm.onnx has a broken description: {problem}; expected a file that')):
        load(tmp_path / 'm.onnx')


@pytest.mark.parametrize('text', ['', '{', '[]', '{}', '{"artefact": 3}', '[' * 100000])
@pytest.mark.parametrize('name', NAMES)
def test_damaged_descriptions_are_one_line(name, text, tmp_path):
    write(tmp_path / name)
    backend_of(tmp_path / name).describe(tmp_path / name, text)
    with pytest.raises(UserError, match=r'm\S+ has (a broken|no) description.*; expected a file that repvgg-seg deploy wrote'):
        load(tmp_path / name)


@pytest.mark.parametrize('name', ['m.onnx', 'm.mlpackage'])
def test_cut_short(name, tmp_path):
    path = tmp_path / name
    write(path)
    describe(path)
    whole = network_of(path).read_bytes()
    for size in range(1, len(whole)):
        network_of(path).write_bytes(whole[:size])
        with pytest.raises(UserError, match=rf'{name} has no description'):
            load(path)


def test_deploy_json_comes_first_and_its_hashes_count(tmp_path, no_backend):
    path = tmp_path / 'm.onnx'
    write(path)
    describe(path)
    listed = {'m.onnx': dict(ENTRY, sha256=sha256_of(path))}
    (tmp_path / 'deploy.json').write_text(json.dumps(dict(RECORD, classes=['of', 'the folder'], artefacts=listed)))
    assert load(path).classes == ('of', 'the folder')
    path.write_bytes(path.read_bytes() + protobuf_metadata._field(1, b'more'))
    with pytest.raises(UserError, match='is not the file that was exported'):
        load(path)
    path.rename(tmp_path / 'copied.onnx')  # Which deploy.json does not list.
    assert load(tmp_path / 'copied.onnx').classes == tuple(RECORD['classes'])
