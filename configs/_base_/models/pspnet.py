# PSPNet as the RepVGG paper has it: output stride 8, auxiliary head on stage 4, loss 0.4. The backbone is for the leaf.
norm_cfg = dict(type='BN', requires_grad=True)
window = (713, 713)  # Cityscapes: the training crop, and the window at test time, which moves by two thirds of it
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
