# The paper's strong recipe (section 4.1) for its largest models: 200 epochs with 5 of warm-up.
_base_ = './imagenet_120e.py'
max_epochs = 200
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=5, end=max_epochs, convert_to_iter_based=True)]
