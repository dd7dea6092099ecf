"""The Cityscapes configs with other heads than PSPNet's, narrower, through the tools: trained, fused, exported."""
import json
import re
from pathlib import Path

import pytest
import tiny
import torch
from exports import picture, skip_without
from helpers import TINY_ARCH, assert_relatively_close, randomize
from mistakes import assert_error_line
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from repvgg_seg.deploy.comparison import as_batch, logits_of
from repvgg_seg.engine.trained_model import build_trained
from repvgg_seg.runtime.predictor import load

CONFIG = """
_base_ = '{root}/configs/{name}_repvgg_b1g2_cityscapes.py'
model = dict(data_preprocessor=dict(size=(97, 97)),
             backbone=dict(arch=dict(_delete_=True, **{arch}), init_cfg=None),
             decode_head=dict(channels=16, **{head}), auxiliary_head=dict(in_channels=32, channels=8),
             test_cfg=dict(crop_size=(97, 97), stride=(64, 64)))
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='{data}'))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='{data}'))
test_dataloader = val_dataloader
"""
# What is narrower, and how it can be exported: for one size, or for any.
HEADS = {
    'upernet': (dict(in_channels=[16, 24, 32, 48]), ['--size', '100', '130']),
    'deeplabv3plus': (dict(in_channels=48, c1_in_channels=16, c1_channels=8), []),
}
REALTIME = """
_base_ = '{root}/configs/realtime_repvgg_a0_toystreets.py'
loss = dict(class_weight=None)  # MMSegmentation 1.2.2 cannot have them beside ignored pixels.
model = dict(data_preprocessor=dict(size=(48, 64)), backbone=dict(arch=dict(_delete_=True, **{arch})),
             decode_head=dict(in_channels=[24, 32, 48], context_channels=16, fusion_channels=(16, 8), block_channels=(8, ),
                              channels=8, loss_decode=loss),
             auxiliary_head=dict(in_channels=32, channels=8, loss_decode=loss))
train_cfg = dict(max_epochs=1)
train_dataloader = dict(batch_size=1, num_workers=0, persistent_workers=False, dataset=dict(data_root='{data}'))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='{data}'))
test_dataloader = val_dataloader
auto_scale_lr = dict(base_batch_size=1)
"""
FPN = """
model = dict(decode_head=dict(_delete_=True, type='FPNHead', in_channels=[16, 24, 32, 48], in_index=[0, 1, 2, 3], channels=16,
                              feature_strides=[4, 8, 16, 32], num_classes=19, align_corners=True))
"""
OCR = """
model = dict(type='CascadeEncoderDecoder', num_stages=2, auxiliary_head=None, decode_head=[
    dict(type='FCNHead', in_channels=48, in_index=-1, channels=8, num_classes=19, align_corners=True),
    dict(type='OCRHead', in_channels=48, in_index=-1, channels=8, ocr_channels=8, num_classes=19, align_corners=True)])
"""


def write_config(folder: Path, streets: Path, name: str) -> Path:
    path = folder / f'{name}.py'
    path.write_text(CONFIG.format(root=tiny.ROOT, name=name, arch=TINY_ARCH, head=HEADS[name][0], data=streets))
    return path


def write_random(config: Path) -> Path:
    """Weights with randomized batch norms."""
    loaded = Config.fromfile(config)
    init_default_scope('mmseg')
    torch.save(randomize(MODELS.build(loaded.model)).state_dict(), config.with_suffix('.pth'))
    return config.with_suffix('.pth')


@pytest.mark.parametrize('name', HEADS)
def test_trains_and_is_fused(run_tool, streets, tmp_path, name):
    config = write_config(tmp_path, streets, name)
    result = run_tool('train', config, '--work-dir', tmp_path / 'run', '--cfg-options', 'train_cfg.max_epochs=1',
                      'train_dataloader.dataset.pipeline.6.crop_size=(97,97)')
    assert result.code == 0, result.err
    checkpoint = tmp_path / 'run/epoch_1.pth'
    assert run_tool('deploy', config, checkpoint, '--out', tmp_path / 'fused').code == 0
    state = torch.load(tmp_path / 'fused/model.pth', weights_only=True)['state_dict']
    assert not [key for key in state if 'running_mean' in key or 'branch' in key]
    found = []
    for model in (checkpoint, tmp_path / 'fused'):
        assert run_tool('test', config, model, '--work-dir', tmp_path / 'test').code == 0
        found.append(json.loads((tmp_path / 'test/test.json').read_text())['aAcc'])
    assert found[0] == pytest.approx(found[1], abs=0.1)


@pytest.mark.whole
@pytest.mark.parametrize('name', HEADS)
def test_is_exported(run_tool, streets, tmp_path, name):
    skip_without('onnx', 'onnxscript', 'onnxruntime')
    config = write_config(tmp_path, streets, name)
    checkpoint = write_random(config)
    result = run_tool('deploy', config, checkpoint, '--out', tmp_path / 'out', '--formats', 'onnx', '--logits', *HEADS[name][1])
    assert result.code == 0, result.err
    trained, predictor = build_trained(Config.fromfile(config), str(checkpoint))[0], load(tmp_path / 'out')
    for size in [predictor.size] if predictor.size else [(100, 130), (65, 97), (113, 49)]:
        image = picture(*size)
        expected = logits_of(trained, as_batch(trained, image[..., ::-1]))[0]
        assert_relatively_close(torch.from_numpy(predictor(image)), expected, 1e-4)


@pytest.mark.parametrize(('change', 'message'), [
    ('', 'error: UPerHead pools adaptively, which can be exported for one size only; give --size H W'),
    (FPN, re.compile("error: FPNHead computes with the size of the image as a constant .+, so it can be exported for one "
                     'size only; give --size H W')),  # In parentheses are PyTorch's own words.
    (OCR, 'error: only an EncoderDecoder can be exported, got CascadeEncoderDecoder; --formats pth can be written'),
], ids=['UPerNet', 'FPN', 'OCRNet'])
def test_what_cannot_be_exported_for_any_size_is_told(run_tool, streets, tmp_path, change, message):
    base = write_config(tmp_path, streets, 'upernet')
    config = tmp_path / 'changed.py'
    config.write_text(f"_base_ = '{base}'\n{change}")
    result = run_tool('deploy', config, write_random(config), '--out', tmp_path / 'out', '--formats', 'pt2')
    assert_error_line(result, message)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('name', HEADS)
def test_a_batch_of_one_image_is_refused(run_tool, streets, tmp_path, name):
    config = write_config(tmp_path, streets, name)
    result = run_tool('train', config, '--work-dir', tmp_path / 'run', '--cfg-options', 'train_dataloader.batch_size=1')
    assert_error_line(result, (
        'error: a training batch has one image, but the pyramid pools to 1x1, whose batch norm needs at least two values a '
        'channel; use train_dataloader.batch_size=2 or more, with train_dataloader.drop_last=True'))


@pytest.fixture(scope='module')
def realtime(streets, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('realtime') / 'realtime.py'
    path.write_text(REALTIME.format(root=tiny.ROOT, arch=TINY_ARCH, data=streets))
    return path


def test_realtime_head_trains_with_batches_of_one_image(run_tool, realtime, tmp_path):
    assert run_tool('train', realtime, '--work-dir', tmp_path).code == 0
    assert (tmp_path / 'epoch_1.pth').is_file()


@pytest.mark.whole
def test_realtime_head_for_any_size_and_in_8_bits(run_tool, realtime, tmp_path):
    skip_without('onnx', 'onnxscript', 'openvino', 'nncf')
    checkpoint = write_random(realtime)
    result = run_tool('deploy', realtime, checkpoint, '--out', tmp_path / 'out', '--formats', 'openvino', '--logits',
                      '--precision', 'fp32', 'int8')
    assert result.code == 0, result.err
    trained, predictor = build_trained(Config.fromfile(realtime), str(checkpoint))[0], load(tmp_path / 'out/model.fp32.xml')
    for size in [(48, 64), (65, 97)]:
        image = picture(*size)
        expected = logits_of(trained, as_batch(trained, image[..., ::-1]))[0]
        assert_relatively_close(torch.from_numpy(predictor(image)), expected, 1e-4)
    layers = json.loads((tmp_path / 'out/deploy.json').read_text())['layer_decibels']
    in_head = [name for name in layers if name.startswith('head.')]
    # The reduction, four pooled maps, two laterals, four blocks, the classifier; and the backbone's blocks.
    assert len(in_head) == 1 + 4 + 2 + 4 + 1 and len(layers) == len(in_head) + 12
