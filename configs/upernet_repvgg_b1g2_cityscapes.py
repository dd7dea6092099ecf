# UPerNet-RepVGG-B1g2. Not dilated: UPerNet gets its resolution from the earlier stages. Ours; the paper has no number for it.
# torchrun --nproc_per_node 8 tools/train.py configs/upernet_repvgg_b1g2_cityscapes.py --launcher pytorch
_base_ = 'pspnet_repvgg_b1g2_cityscapes.py'
model = dict(
    backbone=dict(dilation=None, out_indices=(0, 1, 2, 3)),
    decode_head=dict(
        _delete_=True, type='UPerHead', in_channels=[128, 256, 512, 2048], in_index=[0, 1, 2, 3], channels=512,
        pool_scales=(1, 2, 3, 6), dropout_ratio=0.1, num_classes=19, norm_cfg=_base_.norm_cfg, align_corners=True,
        loss_decode=_base_.model.decode_head.loss_decode))
