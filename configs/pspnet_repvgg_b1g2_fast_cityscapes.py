# PSPNet-RepVGG-B1g2-fast, last 5 layers dilated: paper 78.88 mIoU, 96.19 pixel accuracy (Table 8), not reproduced here.
# The paper does not describe its evaluation. That of PSPNet's code is test.py --tta: one scale, image and mirror image.
# torchrun --nproc_per_node 8 tools/train.py configs/pspnet_repvgg_b1g2_fast_cityscapes.py --launcher pytorch
_base_ = 'pspnet_repvgg_b1g2_cityscapes.py'
model = dict(backbone=dict(dilation='fast'))
