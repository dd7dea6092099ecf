# PSPNet-ResNet-101, the paper's baseline: 78.51 mIoU, 96.30 pixel accuracy (Table 8), not reproduced here.
# The paper does not describe its evaluation. That of PSPNet's code is test.py --tta: one scale, image and mirror image.
# torchrun --nproc_per_node 8 tools/train.py configs/pspnet_r101_cityscapes.py --launcher pytorch
_base_ = 'pspnet_r50_cityscapes.py'
model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint='open-mmlab://resnet101_v1c')))
