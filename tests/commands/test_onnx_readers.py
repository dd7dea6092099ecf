"""ONNX files of a fixed size hold the network and nothing else, and strict readers open them."""
from pathlib import Path

import numpy as np
import pytest
from exports import OPERATORS, check_for_strict_readers, expected_labels, picture, skip_without
from mmengine.config import Config

from repvgg_seg.deploy.formats import ExportRequest
from repvgg_seg.deploy.fusing import fuse_for_inference
from repvgg_seg.deploy.plan import DeployPlan
from repvgg_seg.deploy.programs import Exporter, OnnxProgram
from repvgg_seg.deploy.undilation import undilate_backbones
from repvgg_seg.runtime.backends import load_file
from repvgg_seg.runtime.predictor import in_batches

onnx = pytest.importorskip('onnx', reason='needs the extra [export]')
skip_without('onnxscript', 'onnxruntime')


@pytest.fixture(scope='module')
def fixed(config, random_segmentor, tmp_path_factory) -> Path:
    """An ONNX file without dilation, for two images of 48x64 at once."""
    plan = DeployPlan.of(Config.fromfile(config), ExportRequest(('onnx', ), size=(48, 64), batch=2))
    fused = undilate_backbones(fuse_for_inference(random_segmentor))
    program = OnnxProgram(Exporter(plan, fused, (48, 64)).onnx().model_proto)
    path = tmp_path_factory.mktemp('export') / 'fixed.onnx'
    program.with_labels(plan.task.decision(fused)).save(path)
    return path


def test_a_fixed_size_leaves_nothing_to_compute_but_the_network(fixed, random_segmentor):
    assert {node.op_type for node in onnx.load(fixed).graph.node} == OPERATORS | {'Pad', 'Mul', 'Slice'}  # The mosaics.
    run = in_batches(load_file(fixed, 'fp32'), 2)
    images = np.stack([picture(48, 64, seed) for seed in range(3)])
    expected = np.stack([expected_labels(random_segmentor, image) for image in images])
    for count in (1, 2, 3):
        np.testing.assert_array_equal(run(images[:count]), expected[:count])


def test_what_strict_readers_expect(fixed):
    check_for_strict_readers(fixed, [2, 48, 64])


def test_shapes_of_all_tensors_are_known(fixed):
    graph = onnx.shape_inference.infer_shapes(onnx.load(fixed), check_type=True, strict_mode=True, data_prop=True).graph
    shapes = {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
              for value in (*graph.input, *graph.value_info, *graph.output)}
    assert {name for node in graph.node for name in node.output} <= set(shapes)
    assert all(size > 0 for sizes in shapes.values() for size in sizes), 'an open size'


def test_the_reference_implementation_agrees(fixed, random_segmentor):
    """ONNX's own implementation in NumPy, which follows the specification of each operator to the letter."""
    images = np.stack([picture(48, 64, seed) for seed in range(2)])
    labels, = onnx.reference.ReferenceEvaluator(str(fixed)).run(None, dict(images=images))
    np.testing.assert_array_equal(labels, np.stack([expected_labels(random_segmentor, image) for image in images]))


def test_slimmed(fixed, random_segmentor, tmp_path):
    onnxslim = pytest.importorskip('onnxslim')
    onnxslim.slim(str(fixed), str(tmp_path / 'slim.onnx'))
    images = np.stack([picture(48, 64, seed) for seed in range(2)])
    np.testing.assert_array_equal(load_file(tmp_path / 'slim.onnx', 'fp32')(images), load_file(fixed, 'fp32')(images))
