# MMSegmentation's PIDNet-S on CamVid from scratch with its own losses, by the recipe of realtime_repvgg_a0_camvid.py,
# with which it is compared in docs/realtime.md.
# python tools/train.py configs/pidnet_s_camvid.py --amp
_base_ = ['_base_/datasets/camvid_boundaries.py', '_base_/schedules/camvid_40e.py', '_base_/segmentation_runtime.py']
norm_cfg = dict(type='BN', requires_grad=True)
cross_entropy = dict(type='CrossEntropyLoss', class_weight={{_base_.class_weight}}, loss_weight=0.4)
# Keeps at least 2% of the pixels of a batch, as in MMSegmentation's config for Cityscapes.
hard_pixels = dict(type='OhemCrossEntropy', thres=0.9, min_kept=8192, class_weight={{_base_.class_weight}}, loss_weight=1.0)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                           bgr_to_rgb=True, size=(192, 256), pad_val=0, seg_pad_val=255),
    backbone=dict(type='PIDNet', channels=32, ppm_channels=96, num_stem_blocks=2, num_branch_blocks=3, align_corners=False,
                  norm_cfg=norm_cfg),
    decode_head=dict(
        type='PIDHead', in_channels=128, channels=128, num_classes=11, norm_cfg=norm_cfg, align_corners=True,
        loss_decode=[cross_entropy, hard_pixels, dict(type='BoundaryLoss', loss_weight=20.0), hard_pixels]),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
