# RepFPN-RepVGG-B0 for real time, a larger sibling of A0. Ours; nothing was trained on Cityscapes, so there is no mIoU.
# torchrun --nproc_per_node 2 tools/train.py configs/realtime_repvgg_b0_cityscapes.py --launcher pytorch
_base_ = 'realtime_repvgg_a0_cityscapes.py'
model = dict(
    backbone=dict(arch='B0', init_cfg=dict(checkpoint=[
        'work_dirs/repvgg_b0_imagenet',
        'https://mmassets.onedl.ai/mmclassification/v0/repvgg/repvgg-B0_8xb32_in1k_20221213-5091ecc7.pth'])),
    decode_head=dict(in_channels=[128, 256, 1280]),
    auxiliary_head=dict(in_channels=256))
