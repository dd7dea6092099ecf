# RepFPN-RepVGG-A0 for real time on CamVid from scratch, by the recipe of pspnet_repvgg_a0_camvid.py.
# python tools/train.py configs/realtime_repvgg_a0_camvid.py --amp
_base_ = ['_base_/models/rep_fpn_repvgg.py', '_base_/datasets/camvid.py', '_base_/schedules/pspnet_40e.py',
          '_base_/segmentation_runtime.py']
# As in pspnet_repvgg_a0_camvid.py: square root of the median-frequency weights.
loss = dict(avg_non_ignore=False, class_weight=[0.52, 0.44, 2.14, 0.38, 1.0, 0.68, 1.96, 2.0, 0.87, 2.65, 3.92])
model = dict(
    data_preprocessor=dict(size=(192, 256)),
    backbone=dict(arch='A0'),
    decode_head=dict(in_channels=[96, 192, 1280], num_classes=11, loss_decode=loss),
    auxiliary_head=dict(in_channels=192, num_classes=11, loss_decode=loss))
train_cfg = dict(val_interval=20)
# From scratch heads and backbone learn at the same pace.
optim_wrapper = dict(optimizer=dict(lr=0.03, weight_decay=5e-4), paramwise_cfg=dict(_delete_=True))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, end=2, convert_to_iter_based=True),
    dict(type='PolyLR', power=0.9, eta_min=0, by_epoch=True, end=40, convert_to_iter_based=True)]
auto_scale_lr = dict(base_batch_size=8)
