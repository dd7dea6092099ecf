# PSPNet-RepVGG-A0 on CamVid from scratch, small enough for two CPU cores. Result: docs/measurements.md.
# python tools/train.py configs/pspnet_repvgg_a0_camvid.py --amp
_base_ = ['_base_/models/pspnet_repvgg.py', '_base_/datasets/camvid.py', '_base_/schedules/pspnet_40e.py',
          '_base_/segmentation_runtime.py']
# Square root of the median-frequency weights of the training set: poles, pedestrians and bicyclists are below 1% of it.
# With class weights MMSegmentation's loss supports only avg_non_ignore=False.
loss = dict(avg_non_ignore=False, class_weight=[0.52, 0.44, 2.14, 0.38, 1.0, 0.68, 1.96, 2.0, 0.87, 2.65, 3.92])
model = dict(
    data_preprocessor=dict(size=(192, 256)),
    backbone=dict(arch='A0'),
    decode_head=dict(in_channels=1280, channels=128, num_classes=11, loss_decode=loss),
    auxiliary_head=dict(in_channels=192, channels=64, num_classes=11, loss_decode=loss),
    test_cfg=dict(_delete_=True, mode='whole'))
train_cfg = dict(val_interval=20)
# From scratch heads and backbone learn at the same pace.
optim_wrapper = dict(optimizer=dict(lr=0.03, weight_decay=5e-4), paramwise_cfg=dict(_delete_=True))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, end=2, convert_to_iter_based=True),
    dict(type='PolyLR', power=0.9, eta_min=0, by_epoch=True, end=40, convert_to_iter_based=True)]
auto_scale_lr = dict(base_batch_size=8)
