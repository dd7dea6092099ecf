# The paper's ablations on CIFAR-10, with B0 at half its width: small enough to train all of them on two CPU cores in two hours.
# python tools/train_ablations.py configs/ablations/b0_cifar10.py --amp
_base_ = '../repvgg_a0_cifar10.py'
model = dict(
    backbone=dict(arch=dict(_delete_=True, num_blocks=(4, 6, 16, 1), width_factors=(0.5, 0.5, 0.5, 1.25))),
    head=dict(in_channels=640))
max_epochs = 5
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=1, end=max_epochs, convert_to_iter_based=True)]
