# ToyStreets: 128x256 street scenes, drawn into data/toystreets on first use.
_base_ = './cityscapes.py'
dataset_type = 'repvgg_seg.ToyStreets'
data_root = 'data/toystreets'
crop_size = (128, 256)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=4, num_workers=1,
                        dataset=dict(type=dataset_type, data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(type=dataset_type, data_root=data_root))
test_dataloader = val_dataloader
