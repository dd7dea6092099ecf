# RepFPN-RepVGG-A0 for real time: output stride 32, a light head. Ours; nothing was trained on Cityscapes, so there is no mIoU.
# torchrun --nproc_per_node 2 tools/train.py configs/realtime_repvgg_a0_cityscapes.py --launcher pytorch
_base_ = ['_base_/models/rep_fpn_repvgg.py', '_base_/datasets/cityscapes_1024.py', '_base_/schedules/realtime_120k.py',
          '_base_/segmentation_runtime.py']
model = dict(
    backbone=dict(arch='A0', init_cfg=dict(type='Pretrained', checkpoint=[
        'work_dirs/repvgg_a0_imagenet',
        'https://mmassets.onedl.ai/mmclassification/v0/repvgg/repvgg-A0_8xb32_in1k_20221213-60ae8e23.pth'])),
    # Only pixels whose class has a probability below 0.9, and at least about 2% of all, as in PIDNet and DDRNet.
    decode_head=dict(in_channels=[96, 192, 1280], sampler=dict(type='OHEMPixelSampler', thresh=0.9, min_kept=20000)),
    auxiliary_head=dict(in_channels=192))
