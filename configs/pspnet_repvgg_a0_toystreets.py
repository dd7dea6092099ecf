# PSPNet-RepVGG-A0 on ToyStreets from scratch: what `make demo` trains in a few minutes on two CPU cores.
# python tools/train.py configs/pspnet_repvgg_a0_toystreets.py --amp
_base_ = ['_base_/models/pspnet_repvgg.py', '_base_/datasets/toystreets.py', '_base_/schedules/pspnet_40e.py',
          '_base_/segmentation_runtime.py']
max_epochs = 7
# Fourth root of the median-frequency weights, so that poles, signs and persons count a little more. With class weights
# MMSegmentation's loss supports only avg_non_ignore=False.
loss = dict(avg_non_ignore=False, class_weight=[0.75, 1.04, 0.73, 1.21, 1.23, 1.37, 0.95, 1.01, 0.74, 0.97, 0.98, 1.02])
model = dict(
    data_preprocessor=dict(size=(128, 256)),
    backbone=dict(arch='A0'),
    decode_head=dict(in_channels=1280, channels=128, num_classes=12, loss_decode=loss),
    auxiliary_head=dict(in_channels=192, channels=64, num_classes=12, loss_decode=loss),
    test_cfg=dict(_delete_=True, mode='whole'))
train_cfg = dict(max_epochs=max_epochs, val_interval=3)
# From scratch heads and backbone learn at the same pace.
optim_wrapper = dict(optimizer=dict(lr=0.04), paramwise_cfg=dict(_delete_=True))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type='PolyLR', power=0.9, eta_min=0, by_epoch=True, end=max_epochs, convert_to_iter_based=True)]
auto_scale_lr = dict(base_batch_size=4)
