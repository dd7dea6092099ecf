# A PSPNet-RepVGG of less than 1 MB when fused, on ToyStreets from scratch: the model that the quick demo carries.
# python tools/train.py configs/pspnet_repvgg_tiny_toystreets.py
_base_ = './pspnet_repvgg_a0_toystreets.py'
max_epochs = 30
model = dict(
    backbone=dict(arch=dict(_delete_=True, num_blocks=(1, 2, 6, 1), width_factors=(0.375, 0.25, 0.1875, 0.1875))),  # 24 to 96
    decode_head=dict(in_channels=96, channels=32, pool_channels=16),
    auxiliary_head=dict(in_channels=48, channels=32))
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type='PolyLR', power=0.9, eta_min=0, by_epoch=True, end=max_epochs, convert_to_iter_based=True)]
