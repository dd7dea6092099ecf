# ImageNet-1k under data/imagenet: train/n01440764/*.JPEG ..., and val/ alike, or flat with the list val.txt or meta/val.txt.
dataset_type = 'repvgg_seg.ImageNet'
data_root = 'data/imagenet'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=None,  # An equal share of auto_scale_lr.base_batch_size: 32 on each of 8 GPUs, 256 on one.
    num_workers=8, persistent_workers=True, drop_last=True, collate_fn=dict(type='repvgg_seg.collate_samples'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type=dataset_type, data_root=data_root, data_prefix=dict(img_path='train'), pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=64, num_workers=4, persistent_workers=True, collate_fn=dict(type='repvgg_seg.collate_samples'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, data_prefix=dict(img_path='val'), pipeline=test_pipeline,
                 test_mode=True))
test_dataloader = val_dataloader
