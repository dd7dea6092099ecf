# PSPNet-RepVGG-B1g2, fully dilated: paper 78.70 mIoU, 96.27 pixel accuracy (Table 8), not reproduced here.
# The paper does not describe its evaluation. That of PSPNet's code is test.py --tta: one scale, image and mirror image.
# torchrun --nproc_per_node 8 tools/train.py configs/pspnet_repvgg_b1g2_cityscapes.py --launcher pytorch
_base_ = 'pspnet_repvgg_b2_cityscapes.py'
model = dict(
    backbone=dict(arch='B1g2', init_cfg=dict(checkpoint=[
        'work_dirs/repvgg_b1g2_imagenet',
        'https://mmassets.onedl.ai/mmclassification/v0/repvgg/repvgg-B1g2_8xb32_in1k_20221213-ae6428fd.pth'])),
    decode_head=dict(in_channels=2048, pool_channels=512),
    auxiliary_head=dict(in_channels=512))
