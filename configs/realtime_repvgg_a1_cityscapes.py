# RepFPN-RepVGG-A1 for real time, a larger sibling of A0. Ours; nothing was trained on Cityscapes, so there is no mIoU.
# torchrun --nproc_per_node 2 tools/train.py configs/realtime_repvgg_a1_cityscapes.py --launcher pytorch
_base_ = 'realtime_repvgg_a0_cityscapes.py'
model = dict(
    backbone=dict(arch='A1', init_cfg=dict(checkpoint=[
        'work_dirs/repvgg_a1_imagenet',
        'https://mmassets.onedl.ai/mmclassification/v0/repvgg/repvgg-A1_8xb32_in1k_20221213-f81bf3df.pth'])),
    decode_head=dict(in_channels=[128, 256, 1280]),
    auxiliary_head=dict(in_channels=256))
