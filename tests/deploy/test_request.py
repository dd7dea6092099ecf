"""What can be asked of an export, in Python."""
import json
from dataclasses import asdict

import numpy as np
import pytest

from repvgg_seg.core.errors import UserError
from repvgg_seg.deploy.formats import FORMATS, PRECISIONS, ExportRequest, check_request


@pytest.mark.situation('Smaller', 'integers of NumPy as the size of an export', before='deploy.json could not be written',
                       now='they are integers')
@pytest.mark.parametrize('size', [(48, 64), [48, 64], np.array([48, 64]), (np.int64(48), np.uint8(64))], ids=repr)
def test_sizes(size):
    request = ExportRequest(size=size)
    assert request.size == (48, 64) and json.loads(json.dumps(asdict(request)))['size'] == [48, 64]


@pytest.mark.parametrize('size', [48, (48, ), (48, 64, 3), (48., 64), '48'], ids=repr)
def test_other_sizes(size):
    with pytest.raises(UserError) as raised:
        ExportRequest(size=size)
    assert str(raised.value) == f'size must be height and width, or None, got {size}'


@pytest.mark.parametrize('batch', [0, -1, 1.5, 'any'], ids=repr)
def test_other_batches(batch):
    with pytest.raises(UserError) as raised:
        ExportRequest(size=(48, 64), batch=batch)
    assert str(raised.value) == f'batch must be 1 or more, or None for any number of images, got {batch!r}'


def test_files_for_any_size_take_any_number_of_images():
    assert [ExportRequest(size=size, batch=batch).fixed_batch for size in (None, (48, 64)) for batch in (1, 4, None)] == [
        None, None, None, 1, 4, None]


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(formats=('pt2', ), batch=2), '--batch is for files of a fixed size, and files for any size take any number of '
     'images; give --size H W, or leave --batch out'),
    (dict(formats=('ncnn', ), batch=None, size=(48, 64)), 'ncnn takes one image at a time; leave --batch out'),
    (dict(formats='onnx'), f"formats must be among {', '.join(FORMATS)}, got 'onnx'"),
    (dict(formats=('onxx', )), f"formats must be among {', '.join(FORMATS)}, got ('onxx',)"),
    (dict(precisions=()), f"precisions must be among {', '.join(PRECISIONS)}, got ()"),
    (dict(formats=('onnx', ), opset=14), '--opset must be from 15 to 23, got 14'),
    (dict(formats=('onnx', ), opset=24), '--opset must be from 15 to 23, got 24'),
    (dict(formats=('pt2', 'openvino'), opset=17), '--opset is for --formats onnx or opencv or web; add one of them, or '
     'leave it out'),
    (dict(channels='rgb'), "channels must be among RGB, BGR, got ['rgb']"),
])
def test_what_does_not_exist(changes, message):
    with pytest.raises(UserError) as raised:
        check_request(ExportRequest(**changes))
    assert str(raised.value) == message
