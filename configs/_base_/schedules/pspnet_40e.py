# From the RepVGG paper (section 4.3): 40 epochs, batch size, learning rate, poly schedule and weight decay. From PSPNet's code
# (semseg): SGD with momentum 0.9, and the 10 times higher learning rate of the heads.
max_epochs = 40
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10), auxiliary_head=dict(lr_mult=10))))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0, by_epoch=True, end=max_epochs, convert_to_iter_based=True)]
# The learning rate is for 16 images per step; it is scaled to the actual number.
auto_scale_lr = dict(enable=True, base_batch_size=16)
