# RepFPN-RepVGG-A0 for real time on ToyStreets from scratch, by the recipe of pspnet_repvgg_a0_toystreets.py.
# python tools/train.py configs/realtime_repvgg_a0_toystreets.py --amp
_base_ = ['_base_/models/rep_fpn_repvgg.py', '_base_/datasets/toystreets.py', '_base_/schedules/pspnet_40e.py',
          '_base_/segmentation_runtime.py']
max_epochs = 7
# As in pspnet_repvgg_a0_toystreets.py: fourth root of the median-frequency weights.
loss = dict(avg_non_ignore=False, class_weight=[0.75, 1.04, 0.73, 1.21, 1.23, 1.37, 0.95, 1.01, 0.74, 0.97, 0.98, 1.02])
model = dict(
    data_preprocessor=dict(size=(128, 256)),
    backbone=dict(arch='A0'),
    decode_head=dict(in_channels=[96, 192, 1280], num_classes=12, loss_decode=loss),
    auxiliary_head=dict(in_channels=192, num_classes=12, loss_decode=loss))
train_cfg = dict(max_epochs=max_epochs, val_interval=3)
optim_wrapper = dict(optimizer=dict(lr=0.04), paramwise_cfg=dict(_delete_=True))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type='PolyLR', power=0.9, eta_min=0, by_epoch=True, end=max_epochs, convert_to_iter_based=True)]
auto_scale_lr = dict(base_batch_size=4)
