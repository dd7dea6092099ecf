"""Data, schedule and runtime of a pure-Python config, for pspnet.py beside it."""
from mmcv.transforms import LoadImageFromFile, RandomFlip, TestTimeAug
from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook, LoggerHook, ParamSchedulerHook
from mmengine.optim import OptimWrapper, PolyLR
from mmengine.runner import EpochBasedTrainLoop, TestLoop, ValLoop
from mmengine.visualization import LocalVisBackend
from mmseg.datasets.transforms import LoadAnnotations, PackSegInputs
from mmseg.evaluation import IoUMetric
from mmseg.models import SegTTAModel
from mmseg.visualization import SegLocalVisualizer
from torch.optim import SGD

from repvgg_seg.datasets import ToyStreets

default_scope = 'mmseg'
train_pipeline = [dict(type=LoadImageFromFile), dict(type=LoadAnnotations), dict(type=RandomFlip, prob=0.5),
                  dict(type=PackSegInputs)]
test_pipeline = [dict(type=LoadImageFromFile), dict(type=LoadAnnotations), dict(type=PackSegInputs)]
tta_model = dict(type=SegTTAModel)
tta_pipeline = [dict(type=LoadImageFromFile), dict(type=TestTimeAug, transforms=[
    [dict(type=RandomFlip, prob=0.), dict(type=RandomFlip, prob=1.)],
    [dict(type=LoadAnnotations)], [dict(type=PackSegInputs)]])]
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(type=ToyStreets, data_root='data/toystreets', pipeline=train_pipeline,
                 data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train')))
val_dataloader = test_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=ToyStreets, data_root='data/toystreets', pipeline=test_pipeline, test_mode=True,
                 data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val')))
val_evaluator = test_evaluator = dict(type=IoUMetric, iou_metrics=['mIoU'])
train_cfg = dict(type=EpochBasedTrainLoop, max_epochs=2, val_interval=1)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type=PolyLR, power=0.9, by_epoch=True, end=2, convert_to_iter_based=True)]
default_hooks = dict(logger=dict(type=LoggerHook, interval=1), param_scheduler=dict(type=ParamSchedulerHook),
                     checkpoint=dict(type=CheckpointHook, interval=1, save_best='mIoU'))
visualizer = dict(type=SegLocalVisualizer, vis_backends=[dict(type=LocalVisBackend)], name='visualizer')
randomness = dict(seed=0)
