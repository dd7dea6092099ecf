# PSPNet as in its code (semseg): pyramid, auxiliary head on stage 4 with a loss weight of 0.4, sliding window at test time.
# The leaf config adds the backbone.
norm_cfg = dict(type='BN', requires_grad=True)
window = (713, 713)  # Training crop, and window at test time, which moves by two thirds of its size (semseg)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                           bgr_to_rgb=True, size=window, pad_val=0, seg_pad_val=255),
    decode_head=dict(
        type='repvgg_seg.FactorizedPSPHead', in_index=-1, channels=512, pool_scales=(1, 2, 3, 6), dropout_ratio=0.1,
        num_classes=19, norm_cfg=norm_cfg, align_corners=True,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True, loss_weight=1.0)),
    auxiliary_head=dict(
        type='FCNHead', in_index=-2, channels=256, num_convs=1, concat_input=False, dropout_ratio=0.1, num_classes=19,
        norm_cfg=norm_cfg, align_corners=True,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True, loss_weight=0.4)),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=window, stride=(476, 476)))
