# PSPNet-ResNet-50, the paper's baseline: 77.17 mIoU, 95.99 pixel accuracy (Table 8), not reproduced here.
# The paper does not describe its evaluation. That of PSPNet's code is test.py --tta: one scale, image and mirror image.
# torchrun --nproc_per_node 8 tools/train.py configs/pspnet_r50_cityscapes.py --launcher pytorch
_base_ = ['_base_/models/pspnet_resnet.py', '_base_/datasets/cityscapes.py', '_base_/schedules/pspnet_40e.py',
          '_base_/segmentation_runtime.py']
model = dict(backbone=dict(depth=50, init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnet50_v1c')))
