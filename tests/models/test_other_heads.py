"""The backbone under heads and necks of other packages, built by their registries: trained, fused, and equal after that."""
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import torch
from helpers import TINY_ARCH, assert_relatively_close, norms_of, randomize
from mmengine.config import ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from repvgg_seg.deploy import fuse

EXACT = 1e-10  # Relative to the largest output, in float64.
CLASSES, HEIGHT, WIDTH = 4, 64, 96
WIDTHS = [16, 24, 32, 48]  # Of TINY_ARCH's stages.
SYNC_BN = dict(type='SyncBN', requires_grad=True)  # As in the packages' own configs.
PIXELS = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)


def backbone(**kwargs) -> dict:
    return dict(type='repvgg_seg.RepVGG', arch=TINY_ARCH, norm_cfg=SYNC_BN, **kwargs)


PYRAMID = backbone(out_indices=(0, 1, 2, 3))  # Output strides 4, 8, 16 and 32.
HEAD = dict(channels=8, num_classes=CLASSES, dropout_ratio=0.1, norm_cfg=SYNC_BN, align_corners=False,
            loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True))
EVERY_STAGE = dict(in_channels=WIDTHS, in_index=(0, 1, 2, 3), **HEAD)
LAST_STAGE = dict(in_channels=48, in_index=-1, **HEAD)


def segmentor(backbone: dict, decode_head: dict | list[dict], kind: str = 'EncoderDecoder', **kwargs) -> dict:
    return dict(type=kind, data_preprocessor=dict(type='SegDataPreProcessor', size=(HEIGHT, WIDTH), **PIXELS),
                backbone=backbone, decode_head=decode_head, test_cfg=dict(mode='whole'), **kwargs)


def detector(bbox_head: dict) -> dict:
    """RetinaNet as in mmdet's configs, narrower, without the levels that are too coarse for such small images."""
    return dict(
        type='RetinaNet', data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32, **PIXELS), backbone=PYRAMID,
        neck=dict(type='FPN', in_channels=WIDTHS, out_channels=16, start_level=1, num_outs=3, norm_cfg=SYNC_BN),
        bbox_head=dict(
            num_classes=CLASSES, in_channels=16, stacked_convs=2, feat_channels=16, norm_cfg=SYNC_BN,
            anchor_generator=dict(type='AnchorGenerator', octave_base_scale=2, scales_per_octave=3, ratios=[0.5, 1.0, 2.0],
                                  strides=[8, 16, 32]),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'), loss_cls=dict(type='FocalLoss', use_sigmoid=True),
            loss_bbox=dict(type='L1Loss'), **bbox_head),
        train_cfg=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0),
                       sampler=dict(type='PseudoSampler'), allowed_border=-1, pos_weight=-1, debug=False),
        test_cfg=dict(nms_pre=100, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=10))


AUXILIARY = dict(auxiliary_head=dict(type='FCNHead', **{**LAST_STAGE, 'in_channels': 32, 'in_index': -2}))
SEGMENTORS = {
    'FCN': segmentor(backbone(dilation='full', out_indices=(2, 3)), dict(type='FCNHead', **LAST_STAGE), **AUXILIARY),
    'DeepLabV3+': segmentor(
        backbone(dilation='full', out_indices=(0, 2, 3)),
        dict(type='DepthwiseSeparableASPPHead', dilations=(1, 2, 3), c1_in_channels=16, c1_channels=8, **LAST_STAGE),
        **AUXILIARY),
    'OCRNet': segmentor(
        backbone(dilation='fast', out_indices=(2, 3)),
        [dict(type='FCNHead', num_convs=1, concat_input=False, **LAST_STAGE),
         dict(type='OCRHead', ocr_channels=8, **LAST_STAGE)], 'CascadeEncoderDecoder', num_stages=2),
    'UPerNet': segmentor(PYRAMID, dict(type='UPerHead', pool_scales=(1, 2, 3), **EVERY_STAGE), **AUXILIARY),
    'SegFormer': segmentor(PYRAMID, dict(type='SegformerHead', **EVERY_STAGE)),
    'RepFPN': segmentor(
        backbone(out_indices=(1, 2, 3)),
        dict(type='repvgg_seg.RepFPNHead', context_channels=16, fusion_channels=(16, 8), block_channels=(12, ),
             **{**HEAD, 'in_channels': WIDTHS[1:]}), **AUXILIARY),
    'FPN': segmentor(
        PYRAMID, dict(type='FPNHead', feature_strides=(4, 8, 16, 32), **{**EVERY_STAGE, 'in_channels': [16] * 4}),
        neck=dict(type='FPN', in_channels=WIDTHS, out_channels=16, num_outs=4, norm_cfg=SYNC_BN)),
}
CLASSIFIER = dict(
    type='ImageClassifier',
    data_preprocessor=dict(type='ClsDataPreprocessor', mean=PIXELS['mean'], std=PIXELS['std'], to_rgb=True),
    backbone=backbone(), neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=48, loss=dict(type='CrossEntropyLoss')))
DETECTORS = {
    'RetinaNet': detector(dict(type='RetinaHead')),
    'RetinaNet with norms of their own for each level': detector(dict(type='RetinaSepBNHead', num_ins=3)),
}
without_detection = pytest.mark.skipif(find_spec('mmdet') is None or find_spec('mmcv._ext') is None,
                                       reason='needs mmdet and an mmcv with compiled ops')
CASES = [
    *(pytest.param('mmseg', config, id=name) for name, config in SEGMENTORS.items()),
    pytest.param('mmpretrain', CLASSIFIER, id='classifier'),
    *(pytest.param('mmdet', config, id=name, marks=without_detection) for name, config in DETECTORS.items()),
]


def data_sample(scope: str):
    """One image's labels, at random."""
    if scope == 'mmseg':
        from mmseg.structures import SegDataSample
        return SegDataSample(gt_sem_seg=PixelData(data=torch.randint(CLASSES, (1, HEIGHT, WIDTH))))
    if scope == 'mmpretrain':
        from mmpretrain.structures import DataSample
        return DataSample().set_gt_label(torch.randint(CLASSES, (1, )))
    from mmdet.structures import DetDataSample
    boxes = torch.tensor([[72., 40, 88, 56], [32, 16, 64, 48], [1, 1, 63, 63]])  # One for each level.
    sample = DetDataSample(gt_instances=InstanceData(bboxes=boxes, labels=torch.randint(CLASSES, (3, ))))
    sample.set_metainfo(dict(img_shape=(HEIGHT, WIDTH), ori_shape=(HEIGHT, WIDTH), scale_factor=(1, 1)))
    return sample


def batch(scope: str) -> dict:
    """Two images of noise, as a data loader hands them to ``train_step``."""
    inputs = torch.randint(256, (2, 3, HEIGHT, WIDTH), dtype=torch.uint8)
    # Only MMPretrain's loaders stack images.
    return dict(inputs=inputs if scope == 'mmpretrain' else list(inputs), data_samples=[data_sample(scope) for _ in inputs])


def build(scope: str, config: dict) -> nn.Module:
    """With plain batch norms in the place of synchronized ones, as MMEngine has it in a single process."""
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(ConfigDict(config))
        model.init_weights()
    return revert_sync_batchnorm(model)


def tensors(output: Tensor | tuple | list) -> Iterator[Tensor]:
    """Of a tensor, or of nested tuples and lists of them."""
    if isinstance(output, Tensor):
        yield output
    else:
        for part in output:
            yield from tensors(part)


@torch.no_grad()
def raw_outputs(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Logits, of all heads; of a detector class scores and box deltas of each level."""
    outputs = list(tensors(model(images, mode='tensor')))
    if getattr(model, 'with_auxiliary_head', False):
        outputs += tensors(model.auxiliary_head(model.extract_feat(images)))
    return outputs


@pytest.mark.parametrize(('scope', 'config'), CASES)
def test_trains_and_fuses(scope, config):
    model = build(scope, config).train()
    optimizer = build_optim_wrapper(model, dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01)))
    for _ in range(3):
        losses = model.train_step(batch(scope), optimizer)
        assert torch.isfinite(losses['loss'])
    model.parse_losses(model(**model.data_preprocessor(batch(scope), training=True), mode='loss'))[0].backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()] == []

    randomize(model).double().eval()
    fused = fuse(model)
    assert norms_of(model) != [] and norms_of(fused) == [] and fused.backbone.deploy
    images = torch.randn(2, 3, HEIGHT, WIDTH).double()
    assert_relatively_close(raw_outputs(fused, images), raw_outputs(model, images), EXACT)
