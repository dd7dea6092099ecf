# RepVGG at output stride 32 under a light head that classifies at stride 8; auxiliary head on stage 4. The leaf sets the arch.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                           bgr_to_rgb=True, size=(1024, 1024), pad_val=0, seg_pad_val=255),
    backbone=dict(type='repvgg_seg.RepVGG', out_indices=(1, 2, 3)),  # Output strides 8, 16 and 32.
    decode_head=dict(
        type='repvgg_seg.RepFPNHead', in_index=(0, 1, 2), context_channels=128, fusion_channels=(128, 64),
        block_channels=(64, ), channels=64, pool_scales=(1, 2, 3, 6), dropout_ratio=0.1, num_classes=19, norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True, loss_weight=1.0)),
    auxiliary_head=dict(
        type='FCNHead', in_index=-2, channels=64, num_convs=1, concat_input=False, dropout_ratio=0.1, num_classes=19,
        norm_cfg=norm_cfg, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True, loss_weight=0.4)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
