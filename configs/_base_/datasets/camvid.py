# CamVid in SegNet's split: train/, trainannot/, val/, valannot/ under data/camvid, 480x360 images.
_base_ = './cityscapes.py'
dataset_type = 'repvgg_seg.CamVidDataset'
data_root = 'data/camvid'
crop_size = (192, 256)
# Square root of the median-frequency weights of the training set: poles, pedestrians and bicyclists are below 1% of it.
class_weight = [0.52, 0.44, 2.14, 0.38, 1.0, 0.68, 1.96, 2.0, 0.87, 2.65, 3.92]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(480, 360), ratio_range=(0.6, 1.3), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8, num_workers=2,
    dataset=dict(type=dataset_type, data_root=data_root, pipeline=train_pipeline,
                 data_prefix=dict(img_path='train', seg_map_path='trainannot')))
val_dataloader = dict(
    num_workers=1,
    dataset=dict(type=dataset_type, data_root=data_root, data_prefix=dict(img_path='val', seg_map_path='valannot')))
test_dataloader = val_dataloader
