# The recipe of PIDNet and DDRNet in MMSegmentation: 120,000 iterations of 12 images, one poly learning rate for all layers.
_base_ = './pspnet_40e.py'
max_epochs = 484  # Of Cityscapes, whose epochs have 247 iterations of 12 images.
train_cfg = dict(max_epochs=max_epochs, val_interval=22)
optim_wrapper = dict(optimizer=dict(lr=0.01, weight_decay=5e-4), paramwise_cfg=dict(_delete_=True))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0, by_epoch=True, end=max_epochs, convert_to_iter_based=True)]
auto_scale_lr = dict(base_batch_size=12)
