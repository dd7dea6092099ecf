_base_ = './repvgg_classifier.py'
model = dict(
    data_preprocessor=dict(num_classes=1000),  # For the mixed labels.
    head=dict(loss=dict(_delete_=True, type='LabelSmoothLoss', label_smooth_val=0.1)),
    train_cfg=dict(augments=dict(type='Mixup', alpha=0.2)))
