# PSPNet-RepVGG-A1, fully dilated: a small sibling, not in the paper.
# torchrun --nproc_per_node 8 tools/train.py configs/pspnet_repvgg_a1_cityscapes.py --launcher pytorch
_base_ = 'pspnet_repvgg_b2_cityscapes.py'
model = dict(
    backbone=dict(arch='A1', init_cfg=dict(checkpoint=[
        'work_dirs/repvgg_a1_imagenet',
        'https://mmassets.onedl.ai/mmclassification/v0/repvgg/repvgg-A1_8xb32_in1k_20221213-f81bf3df.pth'])),
    decode_head=dict(in_channels=1280, pool_channels=320),
    auxiliary_head=dict(in_channels=256))
