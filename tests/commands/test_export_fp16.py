"""ONNX files in 16 bits, which every CPU can check."""
import json
from pathlib import Path

import numpy as np
import pytest
from exports import skip_without
from mmengine.config import Config
from PIL import Image

from repvgg_seg.datasets.toy import draw_scene
from repvgg_seg.deploy.deploying import deploy
from repvgg_seg.deploy.formats import ExportRequest
from repvgg_seg.deploy.quick_demo import MODEL
from repvgg_seg.runtime.predictor import load

pytestmark = pytest.mark.whole
skip_without('onnx', 'onnxscript', 'onnxruntime')


@pytest.fixture(scope='module')
def exported(tmp_path_factory) -> Path:
    """The quick demo's model in two precisions, on a CPU that does not compute in 16 bits."""
    folder = tmp_path_factory.mktemp('export')
    scene = draw_scene(4_000_000)[0]
    Image.fromarray(scene).save(folder / 'scene.png')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('repvgg_seg.deploy.formats.request.native_precisions', lambda: ['fp32', 'int8'])
        deploy(Config.fromfile(MODEL / 'config.py'), str(MODEL / 'model.pth'), folder / 'out',
               ExportRequest(('onnx', ), ('fp32', 'fp16'), images=str(folder / 'scene.png'), size=scene.shape[:2]))
    return folder / 'out'


def test_agrees(exported):
    entries = json.loads((exported / 'deploy.json').read_text())['artefacts']
    full, half = (entries[f'model.{precision}.onnx'] for precision in ('fp32', 'fp16'))
    assert half['bytes'] < 0.53 * full['bytes']
    assert 1e-5 < half['logit_difference'] < 5e-3 and 0 < half['changed'] < 1e-3, 'equal numbers would not be in 16 bits'
    image = draw_scene(4_000_001)[0]
    labels = [load(exported / f'model.{precision}.onnx')(image) for precision in ('fp32', 'fp16')]
    assert labels[1].dtype == np.uint8 and 0 < (labels[0] != labels[1]).mean() < 1e-3 and len(np.unique(labels[0])) > 5


def test_all_weights_have_16_bits(exported):
    import onnx
    path = exported / 'model.fp16.onnx'
    onnx.checker.check_model(path, full_check=True)
    graph = onnx.load(path).graph
    dtypes = {each.name: each.data_type for each in graph.initializer}
    weights = [dtypes[name] for node in graph.node if node.op_type == 'Conv' for name in node.input[1:] if name in dtypes]
    assert len(weights) > 10 and set(weights) == {onnx.TensorProto.FLOAT16}
    assert [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)] == [onnx.TensorProto.UINT8] * 2
