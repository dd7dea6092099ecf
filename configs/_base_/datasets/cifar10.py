# CIFAR-10 as images under data/cifar10: train/CLASS/*.jpg and test/CLASS/*.jpg, enlarged to 64x64.
_base_ = './imagenet.py'
dataset_type = 'repvgg_seg.ImageFolder'
data_root = 'data/cifar10'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Resize', scale=64),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=64),
    dict(type='PackInputs'),
]
train_dataloader = dict(num_workers=1, dataset=dict(type=dataset_type, data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=1, batch_size=100,
    dataset=dict(type=dataset_type, data_root=data_root, data_prefix=dict(img_path='test'), pipeline=test_pipeline))
test_dataloader = val_dataloader
