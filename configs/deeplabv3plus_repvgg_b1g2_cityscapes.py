# DeepLabV3+-RepVGG-B1g2-fast: the head dilates by itself, and under PSPNet dilating only the last layers cost no accuracy.
# Ours; the paper has no number for it.
# torchrun --nproc_per_node 8 tools/train.py configs/deeplabv3plus_repvgg_b1g2_cityscapes.py --launcher pytorch
_base_ = 'pspnet_repvgg_b1g2_fast_cityscapes.py'
model = dict(
    backbone=dict(out_indices=(0, 2, 3)),
    decode_head=dict(
        _delete_=True, type='DepthwiseSeparableASPPHead', in_channels=2048, in_index=-1, channels=512,
        dilations=(1, 12, 24, 36), c1_in_channels=128, c1_channels=48, dropout_ratio=0.1, num_classes=19,
        norm_cfg=_base_.norm_cfg, align_corners=True, loss_decode=_base_.model.decode_head.loss_decode))
