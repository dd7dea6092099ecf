_base_ = './default_runtime.py'
default_scope = 'mmseg'
# Batch norm is synchronized when training on several GPUs; on one device, and on CPUs, it is the plain one.
sync_bn = 'torch'
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
default_hooks = dict(checkpoint=dict(save_best='mIoU'), visualization=dict(type='SegVisualizationHook'))
val_evaluator = test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
tta_model = dict(type='SegTTAModel')
