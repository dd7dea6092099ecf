"""Segmentors of other images than three channels in RGB, and of two classes in one channel, in every exported form."""
import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import stock
import torch
from exports import skip_without
from helpers import randomize
from mistakes import assert_error_line
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from repvgg_seg.core.errors import UserError
from repvgg_seg.deploy.comparison import Decision, compare, logits_of
from repvgg_seg.deploy.formats import FORMATS as FORMAT_TABLE
from repvgg_seg.deploy.formats import ExportRequest
from repvgg_seg.deploy.fusing import fuse_for_inference
from repvgg_seg.deploy.graph import LabelGraph, SegmentorGraph
from repvgg_seg.deploy.identities import split_identities
from repvgg_seg.deploy.normalization import normalization_of
from repvgg_seg.deploy.plan import DeployPlan
from repvgg_seg.deploy.programs import Exporter
from repvgg_seg.deploy.quantization import Quantizer, quantize_onnx
from repvgg_seg.engine.dataset_configs import test_pipeline as pipeline_of
from repvgg_seg.engine.exported import exported_config
from repvgg_seg.engine.model_check import channels_of
from repvgg_seg.engine.prediction.network import Segmenter
from repvgg_seg.engine.prediction.sources import Frame
from repvgg_seg.engine.trained_model import build_trained
from repvgg_seg.runtime.predictor import load, load_file

tifffile = pytest.importorskip('tifffile', reason='needs the extra [tiff]')
PLAIN = 'dict(_delete_=True, type="SegDataPreProcessor", size=(48, 64))'
KINDS = {  # Number of channels, what is changed in the model, and the steps of the test pipeline.
    'grayscale': (1, 'data_preprocessor=dict(mean=[100.], std=[50.], bgr_to_rgb=False), backbone=dict(in_channels=1)',
                  "dict(type='LoadImageFromFile', color_type='grayscale')"),
    'grayscale_normalize': (
        1, f'data_preprocessor={PLAIN}, backbone=dict(in_channels=1)',
        "dict(type='LoadImageFromFile', color_type='grayscale'), dict(type='Normalize', mean=[100.], std=[50.], to_rgb=False)"),
    'alpha': (4, f'data_preprocessor={PLAIN}, backbone=dict(in_channels=4)',
              "dict(type='LoadImageFromFile', color_type='unchanged'), dict(type='Resize', scale=(64, 48)), "
              "dict(type='Normalize', mean=[90., 100., 110., 120.], std=[50., 60., 70., 80.], to_rgb=False)"),
    'bands': (4, 'data_preprocessor=dict(mean=None, std=None, bgr_to_rgb=False), backbone=dict(in_channels=4)',
              "dict(type='LoadImageFromFile', color_type='unchanged'), "
              "dict(type='Normalize', mean=[3e4, 2e4, 3e4, 3e4], std=[2e4, 1e4, 2e4, 3e4], to_rgb=False)"),
    'normalize': (3, f'data_preprocessor={PLAIN}',
                  "dict(type='LoadImageFromFile'), dict(type='Normalize', mean=[90., 100., 110.], std=[50., 60., 70.])"),
    'normalize_then_flip': (3, f'data_preprocessor={PLAIN[:-1]}, bgr_to_rgb=True)',
                            "dict(type='LoadImageFromFile'), dict(type='Normalize', mean=[90., 100., 110.], "
                            'std=[50., 60., 70.], to_rgb=False)'),
    'one_mean_for_all': (3, 'data_preprocessor=dict(mean=[100.], std=[50.])', "dict(type='LoadImageFromFile')"),
}
REQUEST = ExportRequest(('pt2', ), size=(48, 64), batch=None)
MODES = {1: 'L', 3: 'RGB', 4: 'RGBA'}
FORMATS = {'onnx': 'model.fp32.onnx', 'openvino': 'model.fp32.xml', 'pt2': 'model.fp32.pt2', 'ncnn': 'model.fp32.ncnn.param',
           'opencv': 'model.fp32.opencv.onnx', 'litert': 'model.fp32.tflite', 'executorch': 'model.fp32.pte'}
PACKAGES = {'onnx': ('onnxscript', 'onnxruntime'), 'openvino': ('openvino', 'onnxscript'), 'pt2': (), 'ncnn': ('ncnn', 'pnnx'),
            'opencv': ('onnxscript', 'cv2'), 'litert': ('litert_torch', 'ai_edge_litert'), 'executorch': ('executorch', )}
HERE = tuple(name for name, packages in PACKAGES.items() if all(map(find_spec, packages)))


def write_config(kind: str, base: Path, folder: Path) -> Path:
    """A config of a kind."""
    _, model, steps = KINDS[kind]
    path = folder / f'{kind}.py'
    path.write_text(f"_base_ = '{base}'\nmodel = dict({model})\ntest_dataloader = dict(dataset=dict(pipeline=[{steps}, "
                    "dict(type='PackSegInputs')]))\n")
    return path


def write_images(folder: Path, channels: int, bits: int = 8) -> list[Path]:
    """Two images of noise, 48x64; those of 16 bits are TIFF files."""
    folder.mkdir()
    random = np.random.default_rng(0)
    if bits == 16:
        paths = [folder / 'a.tif', folder / 'b.tif']
        for path in paths:
            tifffile.imwrite(path, random.integers(0, 65536, (48, 64, channels), np.uint16), photometric='minisblack',
                             planarconfig='contig')
        return paths
    paths = [folder / 'a.png', folder / 'b.png']
    for path in paths:
        pixels = random.integers(0, 256, (48, 64, channels), np.uint8)
        Image.fromarray(pixels.squeeze(), MODES[channels]).save(path)
    return paths


def write_weights(config: Path) -> Path:
    """Random weights, with which all classes occur."""
    torch.manual_seed(0)
    init_default_scope('mmseg')
    loaded = Config.fromfile(config)
    model = randomize(MODELS.build(loaded.model)).eval()
    with torch.no_grad():
        model.decode_head.conv_seg.weight.normal_(std=3)
        noise = torch.randn(2, channels_of(loaded.model), 96, 96)
        model.decode_head.conv_seg.bias -= logits_of(model, noise).mean((0, 2, 3))
    path = config.with_suffix('.pth')
    torch.save(model.state_dict(), path)
    return path


def trained_labels(config: Path, checkpoint: Path, images: list[Path]) -> np.ndarray:
    """Class indices by a model in PyTorch."""
    loaded = Config.fromfile(config)
    model, _ = build_trained(loaded, str(checkpoint))
    return labels_of(Segmenter(model, pipeline_of(loaded), channels_of(loaded.model), 1), images)


def exported_labels(config: Path, file: Path, images: list[Path]) -> np.ndarray:
    """Class indices by an exported file, which gets the images through the config's pipeline."""
    loaded = Config.fromfile(config)
    model = MODELS.build({**exported_config(loaded, str(file)), 'source': load(file)})
    return labels_of(Segmenter(model, pipeline_of(loaded), model.predictor.in_channels, 1), images)


def labels_of(segmenter: Segmenter, images: list[Path]) -> np.ndarray:
    """Class indices of some images."""
    return np.stack([segmenter.segment(segmenter.read(Frame('', path))).labels for path in images])


@pytest.mark.parametrize(('kind', 'channels'), [(kind, 'RGB') for kind in KINDS if kind != 'bands'] + [
    ('normalize', 'BGR'), ('alpha', 'BGR')])
def test_what_is_exported_gives_the_answers_of_the_training_form(config, tmp_path, kind, channels):
    changed = write_config(kind, config, tmp_path)
    checkpoint, images = write_weights(changed), write_images(tmp_path / 'images', KINDS[kind][0])
    expected = trained_labels(changed, checkpoint, images)
    assert len(np.unique(expected)) > 3, 'answers of one class show nothing'
    loaded = Config.fromfile(changed)
    logits = SegmentorGraph(build_trained(loaded, str(checkpoint))[0], normalization_of(loaded), channels)
    graph = LabelGraph(logits, Decision(None, 'uint8')).eval()
    pixels = np.stack([np.array(Image.open(path)).reshape(48, 64, -1) for path in images])  # RGB, as Pillow reads them.
    order = {1: [0], 3: [0, 1, 2] if channels == 'RGB' else [2, 1, 0], 4: [2, 1, 0, 3]}[KINDS[kind][0]]
    with torch.no_grad():
        found = graph(torch.from_numpy(np.ascontiguousarray(pixels[..., order]))).numpy()
    assert (found == expected).mean() > 0.999


@pytest.mark.whole
@pytest.mark.situation('Tracebacks', 'images of 1 or 4 channels, or normalized by a step of the pipeline, in exports',
                       before='a traceback, or files with other answers',
                       now='every form gives the answers of the training form')
def test_files_for_other_images(run_tool, config, tmp_path):
    skip_without('onnx')
    formats = [name for name in HERE if name != 'onnx']
    changed = write_config('alpha', config, tmp_path)
    checkpoint, images = write_weights(changed), write_images(tmp_path / 'images', 4)
    result = run_tool('deploy', changed, checkpoint, '--out', tmp_path / 'out', '--images', tmp_path / 'images', '--size', '48',
                      '64', '--formats', *formats)
    assert result.code == 0, result.err
    assert 'not in the exported files: Resize of the test pipeline; give them images after that' in result.out.splitlines()
    info = json.loads((tmp_path / 'out/deploy.json').read_text())
    assert (info['in_channels'], info['channels'], info['mean']) == (4, None, [90, 100, 110, 120])
    expected = trained_labels(changed, checkpoint, images)
    assert set(info['artefacts']) == {FORMATS[name] for name in formats}
    for name in info['artefacts']:
        assert (exported_labels(changed, tmp_path / 'out' / name, images) == expected).mean() > 0.999, name
    with pytest.raises(UserError) as raised:
        load(tmp_path / 'out')(np.zeros((48, 64, 3), np.uint8))
    assert str(raised.value) == 'an image must be a NumPy array, uint8 (height, width, 4); got uint8 (48, 64, 3)'


@pytest.mark.whole
def test_16_bits_and_four_channels_from_file_to_exported_files(run_tool, config, tmp_path):
    formats = [name for name in HERE if 'uint16' in FORMAT_TABLE[name].dtypes]
    changed = write_config('bands', config, tmp_path)
    checkpoint, images = write_weights(changed), write_images(tmp_path / 'images', 4, bits=16)
    result = run_tool('deploy', changed, checkpoint, '--out', tmp_path / 'out', '--images', tmp_path / 'images', '--size', '48',
                      '64', '--formats', 'pth', *formats)
    assert result.code == 0, result.err
    info = json.loads((tmp_path / 'out/deploy.json').read_text())
    assert (info['in_channels'], info['dtype'], info['mean']) == (4, 'uint16', [3e4, 2e4, 3e4, 3e4])
    expected = trained_labels(changed, checkpoint, images)
    assert len(np.unique(expected)) > 3 and set(info['artefacts']) == {FORMATS[name] for name in formats}
    for name in info['artefacts']:
        result = run_tool('predict', changed, tmp_path / 'out' / name, tmp_path / 'images', '--out', tmp_path / name,
                          '--labels-only', '--trust-checkpoint')
        assert result.code == 0, result.err
        found = np.stack([np.array(Image.open(tmp_path / name / f'{path.stem}.png')) for path in images])
        assert (found == expected).mean() > 0.999, name
    with pytest.raises(UserError) as raised:
        load(tmp_path / 'out' / FORMATS['pt2'])(np.zeros((48, 64, 4), np.uint8))
    assert str(raised.value) == 'an image must be a NumPy array, uint16 (height, width, 4); got uint8 (48, 64, 4)'


def test_images_of_8_and_16_bits_make_no_export(config, tmp_path):
    changed = Config.fromfile(write_config('bands', config, tmp_path))
    images = write_images(tmp_path / 'images', 4, bits=16)
    Image.fromarray(np.zeros((48, 64, 4), np.uint8), 'RGBA').save(images[1].with_name('c.png'))
    with pytest.raises(UserError) as raised:
        DeployPlan.of(changed, replace(REQUEST, images=str(tmp_path / 'images')))
    assert str(raised.value) == ('the images have different numbers of bits, uint16 and uint8; exported files take one of '
                                 'them, so convert the images')


@pytest.mark.whole
@pytest.mark.parametrize('kind', ['grayscale', 'alpha'])
def test_int8(config, tmp_path, kind):
    skip_without('onnx', 'onnxscript', 'onnxruntime')
    changed = write_config(kind, config, tmp_path)
    loaded, channels = Config.fromfile(changed), KINDS[kind][0]
    fused = fuse_for_inference(build_trained(loaded, str(write_weights(changed)))[0])
    write_images(tmp_path / 'images', channels)
    plan = DeployPlan.of(loaded, replace(REQUEST, images=str(tmp_path / 'images')))
    exporter = Exporter(plan, split_identities(fused), (48, 64))
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 64, channels), np.uint8)
    Quantizer(exporter, images).quantize(quantize_onnx, 1, tmp_path).save(tmp_path / 'model.int8.onnx')
    found = torch.from_numpy(load_file(tmp_path / 'model.int8.onnx', 'int8')(images))
    difference, changed_pixels = compare([(exporter.graph()(torch.from_numpy(images)).detach(), found)])
    assert 0 < difference < 0.5 and changed_pixels < 0.2


@pytest.mark.situation('Tracebacks', 'models that recompute in the backward pass (`with_cp`) are exported',
                       before='shown by no test', now='the same answers')
@pytest.mark.parametrize('with_cp', [True, '1x1'])
def test_models_that_recompute(config, with_cp):
    loaded = Config.fromfile(config)
    loaded.model.backbone.with_cp = with_cp
    init_default_scope('mmseg')
    fused = fuse_for_inference(randomize(MODELS.build(loaded.model)).eval())
    exporter = Exporter(DeployPlan.of(loaded, REQUEST), fused, (48, 64))
    images = torch.randint(256, (2, 48, 64, 3), dtype=torch.uint8)
    torch.testing.assert_close(exporter.program().module()(images), exporter.graph()(images))


def test_an_order_of_other_than_three_channels(run_tool, config, tmp_path):
    skip_without('onnx', 'onnxscript', 'onnxruntime')
    changed = write_config('grayscale', config, tmp_path)
    write_images(tmp_path / 'images', 1)
    result = run_tool('deploy', changed, write_weights(changed), '--out', tmp_path / 'out', '--images', tmp_path / 'images',
                      '--formats', 'onnx', '--channels', 'BGR')
    assert_error_line(result, 'error: --channels is for images of 3 channels, this segmentor takes 1; leave it out')
    assert not (tmp_path / 'out').exists()


def test_normalized_twice(run_tool, config, tmp_path):
    skip_without('onnx', 'onnxscript', 'onnxruntime')
    changed = write_config('normalize', config, tmp_path)
    changed.write_text(changed.read_text().replace(f'data_preprocessor={PLAIN}', ''))
    result = run_tool('deploy', changed, write_weights(changed), '--out', tmp_path / 'out', '--formats', 'onnx')
    assert_error_line(result, (
        'error: images are normalized several times, by Normalize in the test pipeline and model.data_preprocessor or by '
        'several Normalize steps, which cannot be exported; leave one of them and train again'))
    assert not (tmp_path / 'out').exists()


@pytest.mark.situation('Tracebacks', 'a binary model with out_channels=1 is exported, as the log recommends', before='refused',
                       now='sigmoid and threshold are in the graph')
def test_one_channel_for_two_classes(run_tool, tmp_path):
    skip_without('onnx')
    formats = [name for name in HERE if name in ('onnx', 'ncnn')]
    loaded = stock.stock_config('drive', tmp_path)
    for head in (loaded.model.decode_head, loaded.model.auxiliary_head):
        head.update(out_channels=1, threshold=0.4, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True))
    config = tmp_path / 'binary.py'
    loaded.dump(config)
    checkpoint, images = write_weights(config), write_images(tmp_path / 'pictures', 3)
    result = run_tool('deploy', config, checkpoint, '--out', tmp_path / 'out', '--eval', '--size', '48', '64', '--formats',
                      'pth', *formats)
    assert result.code == 0, result.err
    assert 'The prefix is not set' not in result.out + result.err
    info = json.loads((tmp_path / 'out/deploy.json').read_text())
    assert info['threshold'] == pytest.approx(0.4) and info['miou_before'] == pytest.approx(info['miou_after'], abs=0.01)
    expected = trained_labels(config, checkpoint, images)
    assert 0.05 < expected.mean() < 0.95
    assert (trained_labels(config, tmp_path / 'out', images) == expected).mean() > 0.999
    assert set(info['artefacts']) == {FORMATS[name] for name in formats}
    for name in info['artefacts']:
        assert (exported_labels(config, tmp_path / 'out' / name, images) == expected).mean() > 0.999, name
    graph = SegmentorGraph(build_trained(loaded, str(checkpoint))[0], normalization_of(loaded)).eval()
    with torch.no_grad():
        logits = graph(torch.from_numpy(np.stack([np.array(Image.open(path)) for path in images]))).numpy()
    assert logits.shape == (2, 1, 48, 64)
    assert ((1 / (1 + np.exp(-logits[:, 0])) > info['threshold']) == expected).mean() > 0.999
