# PSPNet-RepVGG-B2, fully dilated: paper 80.57 mIoU, 96.50 pixel accuracy (Table 8), not reproduced here.
# The paper does not describe its evaluation. That of PSPNet's code is test.py --tta: one scale, image and mirror image.
# torchrun --nproc_per_node 8 tools/train.py configs/pspnet_repvgg_b2_cityscapes.py --launcher pytorch
_base_ = ['_base_/models/pspnet_repvgg.py', '_base_/datasets/cityscapes.py', '_base_/schedules/pspnet_40e.py',
          '_base_/segmentation_runtime.py']
model = dict(
    backbone=dict(arch='B2', init_cfg=dict(type='Pretrained', checkpoint=[
        'work_dirs/repvgg_b2_imagenet',
        'https://mmassets.onedl.ai/mmclassification/v0/repvgg/repvgg-B2_8xb32_in1k_20221213-d8b420ef.pth'])),
    decode_head=dict(in_channels=2560, pool_channels=640),
    auxiliary_head=dict(in_channels=640))
