# RepFPN-RepVGG-A0 for real time on CamVid from scratch, by the recipe of pspnet_repvgg_a0_camvid.py. Result: docs/realtime.md.
# python tools/train.py configs/realtime_repvgg_a0_camvid.py --amp
_base_ = ['_base_/models/rep_fpn_repvgg.py', '_base_/datasets/camvid.py', '_base_/schedules/camvid_40e.py',
          '_base_/segmentation_runtime.py']
loss = dict(avg_non_ignore=False, class_weight={{_base_.class_weight}})  # As in pspnet_repvgg_a0_camvid.py.
model = dict(
    data_preprocessor=dict(size=(192, 256)),
    backbone=dict(arch='A0'),
    # Only pixels whose class has a probability below 0.9, and at least 2% of all, as in PIDNet and DDRNet.
    decode_head=dict(in_channels=[96, 192, 1280], num_classes=11, loss_decode=loss,
                     sampler=dict(type='OHEMPixelSampler', thresh=0.9, min_kept=1024)),
    auxiliary_head=dict(in_channels=192, num_classes=11, loss_decode=loss))
