# The paper's simple recipe (section 4.1): 120 epochs, cosine learning rate, weight decay on kernels only.
max_epochs = 120
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
# To decay the fused kernels instead of the branches', as the official code can: constructor='repvgg_seg.EquivalentKernelDecay'.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0))
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, end=max_epochs, convert_to_iter_based=True)]
# The learning rate is for 256 images per step; it is scaled to the actual number.
auto_scale_lr = dict(enable=True, base_batch_size=256)
