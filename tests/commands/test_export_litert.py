"""LiteRT files in 8 bits: which convolutions are, how much is lost, and what cannot be quantized."""
import json
from pathlib import Path

import numpy as np
import pytest
from exports import skip_without
from mmengine.config import Config

from repvgg_seg.core.errors import UserError
from repvgg_seg.deploy.deploying import deploy
from repvgg_seg.deploy.formats import ExportRequest, litert
from repvgg_seg.runtime.predictor import load

skip_without('litert_torch', 'ai_edge_litert', 'ai_edge_quantizer')
pytestmark = pytest.mark.whole
REQUEST = ExportRequest(('litert', ), ('fp32', 'int8'), size=(48, 64))


@pytest.fixture(scope='module')
def exported(config, checkpoint, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('export') / 'litert'
    deploy(Config.fromfile(config), str(checkpoint), folder, REQUEST)
    return folder


def convolutions(path: Path) -> list[bool]:
    """Whether each convolution is in 8 bits, in the order of execution."""
    from ai_edge_quantizer.utils.tfl_flatbuffer_utils import read_model
    model = read_model(path)
    graph, = model.subgraphs
    return [graph.tensors[operator.inputs[1]].type == 9 for operator in graph.operators  # INT8 in the schema.
            if model.operatorCodes[operator.opcodeIndex].builtinCode == litert.CONV_2D]


def test_all_layers_but_those_of_the_report_are_in_8_bits(exported):
    report = json.loads((exported / 'deploy.json').read_text())
    kept = report['artefacts']['model.int8.tflite']['higher_precision']
    assert convolutions(exported / 'model.int8.tflite') == [name not in kept for name in report['layer_decibels']]
    assert convolutions(exported / 'model.fp32.tflite') == [False] * len(report['layer_decibels'])
    assert 'backbone.stem.conv' in kept


def test_little_is_lost(exported):
    entries = json.loads((exported / 'deploy.json').read_text())['artefacts']
    assert entries['model.int8.tflite']['logit_difference'] < 0.25 and entries['model.int8.tflite']['changed'] < 0.05
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    labels = [load(exported / name)(image) for name in entries]
    assert labels[0].dtype == labels[1].dtype == np.uint8 and (labels[0] == labels[1]).mean() > 0.9


def test_a_file_of_other_convolutions(config, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(litert, 'convolutions', lambda path: ['one', 'two'])
    with pytest.raises(UserError, match='^the LiteRT file has 2 convolutions, the model 13, so that it is not known which of '
                                        'them to quantize; leave int8 out for litert$'):
        deploy(Config.fromfile(config), str(checkpoint), tmp_path / 'out', REQUEST)
