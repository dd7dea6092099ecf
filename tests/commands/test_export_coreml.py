"""Core ML packages: what is in them, how they are checked where Core ML does not run, and what that system may not do."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import expected_labels, picture, skip_without
from mmengine.config import Config

from repvgg_seg.benchmark.deployed_forms import subjects
from repvgg_seg.benchmark.sources import files_in
from repvgg_seg.core.errors import UserError
from repvgg_seg.deploy import core_ml_reference
from repvgg_seg.deploy.deploying import deploy
from repvgg_seg.deploy.formats import FORMATS, ExportRequest, coreml
from repvgg_seg.deploy.publishing import deployed_files
from repvgg_seg.runtime.backend import DeviceError
from repvgg_seg.runtime.backends import parts_of
from repvgg_seg.runtime.predictor import load
from repvgg_seg.runtime.report import read_record

skip_without('coremltools')
SIZE = (49, 66)
REQUEST = ExportRequest(('coreml', 'onnx'), ('fp32', 'fp16'), size=SIZE)
NAMES = ['model.fp32.mlpackage', 'model.fp16.mlpackage']


@pytest.fixture(scope='module')
def exported(config, random_checkpoint, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('export') / 'coreml'
    deploy(Config.fromfile(config), str(random_checkpoint), folder, REQUEST)
    return folder


def test_what_is_in_a_package(exported):
    import coremltools
    for name, kind in zip(NAMES, ('FLOAT32', 'FLOAT16')):
        parts = [part.relative_to(exported / name).as_posix() for part in parts_of(exported / name)]
        assert parts == [
            'Data/com.apple.CoreML/model.mlmodel', 'Data/com.apple.CoreML/weights/weight.bin', 'Manifest.json']
        specification = coremltools.models.utils.load_spec(str(exported / name))
        (images, ), (labels, ) = specification.description.input, specification.description.output
        assert (images.name, images.type.imageType.height, images.type.imageType.width) == ('images', *SIZE)
        assert images.type.imageType.colorSpace == images.type.imageType.RGB
        assert (labels.name, list(labels.type.multiArrayType.shape)) == ('labels', [1, *SIZE])
        assert labels.type.multiArrayType.dataType == labels.type.multiArrayType.INT32
        assert json.loads(specification.description.metadata.userDefined['repvgg_seg'])['artefact']['precision'] in name
        assert f'type: {kind}' not in str(specification.description)
        block, = specification.mlProgram.functions['main'].block_specializations.values()
        convolutions = [operation for operation in block.operations if operation.type == 'conv']
        types = {convolution.outputs[0].type.tensorType.dataType for convolution in convolutions}
        assert len(convolutions) > 10 and types == {11 if kind == 'FLOAT32' else 10}  # MIL's numbers of these types.


@pytest.mark.parametrize(('name', 'difference', 'changed'), [(NAMES[0], 1e-5, 0), (NAMES[1], 5e-3, 0.01)])
def test_it_was_checked_and_says_what_it_is(exported, random_segmentor, name, difference, changed):
    entry = read_record(exported / name)['artefacts'][name]
    assert 0 < entry['logit_difference'] <= difference and entry['changed'] <= changed
    assert entry['bytes'] == sum(part.stat().st_size for part in parts_of(exported / name))
    image = picture(*SIZE)
    expected = expected_labels(random_segmentor, image)
    assert len(np.unique(expected)) > 3, 'answers of one class show nothing'
    assert (FORMATS['coreml'].load(exported / name, entry['precision'])(image[None])[0] != expected).mean() <= changed
    (exported / 'deploy.json').rename(exported / 'elsewhere.json')
    try:
        described = read_record(exported / name)
    finally:
        (exported / 'elsewhere.json').rename(exported / 'deploy.json')
    assert described['artefacts'][name]['format'] == 'coreml' and described['channels'] == 'RGB'


@pytest.mark.parametrize('what', ['weights', 'operation'])
def test_a_conversion_that_is_wrong_is_refused(config, random_checkpoint, tmp_path, monkeypatch, what):
    save = coreml.CoreMlProgram.save

    def save_wrongly(program, path):
        weight = next(value for value in program.program.state_dict.values() if value.ndim == 4)
        weight.data = 1.5 * weight
        save(program, path)

    if what == 'weights':
        monkeypatch.setattr(coreml.CoreMlProgram, 'save', save_wrongly)
        message = r'model\.fp32\.mlpackage differs from the trained model: logits by .*; nothing was written'
    else:
        monkeypatch.delitem(core_ml_reference.OPERATIONS, 'relu')
        message = r'model\.fp32\.mlpackage has operations of Core ML that cannot be checked here: relu; leave coreml out'
    with pytest.raises(UserError, match=f'^{message}$'):
        deploy(Config.fromfile(config), str(random_checkpoint), tmp_path / 'out', ExportRequest(('coreml', ), size=SIZE))
    assert not (tmp_path / 'out').exists()


def test_other_systems_cannot_run_it(exported, config, random_checkpoint, monkeypatch):
    monkeypatch.setattr('sys.platform', 'linux')
    path = exported / NAMES[0]
    with pytest.raises(DeviceError) as raised:
        load(path)
    assert str(raised.value) == f'{path} runs in Core ML, which is not for this system; load a file of another format'
    assert load(exported).artifact['format'] == 'onnx'
    forms = [subject.name for subject in subjects(Config.fromfile(config), str(random_checkpoint), exported, SIZE, 1)]
    assert 'ONNX Runtime, fp32' in forms and not [form for form in forms if 'Core ML' in form]
    assert [path.name for path in files_in([str(exported)])] == ['model.fp32.onnx', 'model.fp16.onnx']


def test_on_macos(exported, random_segmentor, monkeypatch):
    """With a stand-in for Core ML, which gets what the reference of the file gets."""
    import coremltools
    from PIL import Image
    reference = FORMATS['coreml'].load(exported / NAMES[0], 'fp32')

    class Model:
        def __init__(self, path, compute_units):
            assert (path, compute_units) == (str(exported / NAMES[0]), coremltools.ComputeUnit.CPU_ONLY)

        def get_spec(self):
            return coremltools.models.utils.load_spec(str(exported / NAMES[0]))

        def predict(self, inputs):
            assert isinstance(inputs['images'], Image.Image) and inputs['images'].mode == 'RGB'
            return dict(labels=reference(np.array(inputs['images'])[None]))

    monkeypatch.setattr('sys.platform', 'darwin')
    monkeypatch.setattr(coremltools.models, 'MLModel', Model)
    image, larger = picture(*SIZE), picture(60, 66)
    predictor = load(exported / NAMES[0])
    assert predictor(image).dtype == np.uint8
    np.testing.assert_array_equal(predictor(image), expected_labels(random_segmentor, image))
    np.testing.assert_array_equal(predictor.batch([image, image]), [expected_labels(random_segmentor, image)] * 2)
    np.testing.assert_array_equal(predictor(larger, overlap=9)[:25], expected_labels(random_segmentor, larger[:49])[:25])


def test_a_changed_package_is_not_loaded(exported, monkeypatch):
    weights = exported / NAMES[0] / core_ml_reference.WEIGHTS / 'weight.bin'
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    monkeypatch.setattr('sys.platform', 'darwin')
    try:
        with pytest.raises(UserError, match=r'is not the file that was exported: its sha256 begins with'):
            load(exported / NAMES[0])
    finally:
        weights.write_bytes(before)


def test_all_its_files_are_pushed_and_replaced(exported, config, random_checkpoint):
    report = json.loads((exported / 'deploy.json').read_text())
    pushed = {path.relative_to(exported).as_posix() for path in deployed_files(exported, report)}
    assert {f'{name}/Manifest.json' for name in NAMES} < pushed
    deploy(Config.fromfile(config), str(random_checkpoint), exported, REQUEST)
    assert {path.name for path in exported.iterdir()} == {*NAMES, 'model.fp32.onnx', 'model.fp16.onnx', 'deploy.json'}


@pytest.mark.parametrize(('request_', 'message'), [
    (ExportRequest(('coreml', )), 'coreml takes images of one size; give --size H W'),
    (ExportRequest(('coreml', ), size=SIZE, batch=2), 'coreml takes one image at a time; leave --batch out'),
    (ExportRequest(('coreml', ), size=SIZE, channels='BGR'),
     'coreml takes images, whose order of colors Core ML knows; leave --channels out'),
    (ExportRequest(('coreml', ), ('int8', ), size=SIZE),
     'coreml cannot be written in int8; --formats onnx or openvino or litert or web can')])
def test_requests_that_cannot_be_fulfilled(config, random_checkpoint, tmp_path, request_, message):
    with pytest.raises(UserError) as raised:
        deploy(Config.fromfile(config), str(random_checkpoint), tmp_path / 'out', request_)
    assert str(raised.value) == message and not (tmp_path / 'out').exists()


@pytest.mark.parametrize('begin_mask', [None, [True, False]])
def test_cutting(begin_mask):
    x = torch.arange(12).view(3, 4)
    expected = x[:2, 1:3] if begin_mask else x[1:2, 1:3]
    assert torch.equal(core_ml_reference.cut(x, [1, 1], [2, 3], begin_mask=begin_mask), expected)
    assert torch.equal(core_ml_reference.cut(x, [1, 0], [0, 4], stride=[1, 2], squeeze_mask=[True, False],
                                             end_mask=[False, True]), x[1, ::2])
