# RepVGG-A0 on CIFAR-10 from scratch, small enough for two CPU cores. Result: docs/measurements.md.
# python tools/classify_train.py configs/repvgg_a0_cifar10.py --amp
_base_ = ['_base_/models/repvgg_classifier.py', '_base_/datasets/cifar10.py', '_base_/schedules/imagenet_120e.py',
          '_base_/classification_runtime.py']
model = dict(
    backbone=dict(arch='A0'),
    head=dict(num_classes=10, in_channels=1280, loss=dict(_delete_=True, type='LabelSmoothLoss', label_smooth_val=0.1)))
# A tenth of ImageNet's epochs: smaller batches, more decay, and a warm-up.
max_epochs = 12
train_cfg = dict(max_epochs=max_epochs, val_interval=2)
optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=1, end=max_epochs, convert_to_iter_based=True)]
auto_scale_lr = dict(base_batch_size=128)
