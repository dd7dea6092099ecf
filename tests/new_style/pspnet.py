"""A pure-Python config with RepVGG, as MMEngine's documentation calls it: types are classes, bases are imports."""
from mmengine.config import read_base
from mmseg.models import EncoderDecoder, FCNHead, SegDataPreProcessor
from mmseg.models.losses import CrossEntropyLoss

from repvgg_seg.models import FactorizedPSPHead, RepVGG

with read_base():
    from .streets import *  # noqa: F403

norm_cfg = dict(type='SyncBN')
arch = dict(num_blocks=(1, 1, 5, 1), width_factors=(0.25, 0.125, 0.125, 0.125))
model = dict(
    type=EncoderDecoder,
    data_preprocessor=dict(type=SegDataPreProcessor, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                           bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=(48, 64)),
    backbone=dict(type=RepVGG, arch=arch, dilation='full', out_indices=(2, 3), norm_cfg=norm_cfg),
    decode_head=dict(type=FactorizedPSPHead, in_channels=64, in_index=1, channels=16, num_classes=12, norm_cfg=norm_cfg,
                     loss_decode=dict(type=CrossEntropyLoss)),
    auxiliary_head=dict(type=FCNHead, in_channels=32, in_index=0, channels=16, num_convs=1, num_classes=12, norm_cfg=norm_cfg,
                        loss_decode=dict(type=CrossEntropyLoss, loss_weight=0.4)),
    test_cfg=dict(mode='whole'))
