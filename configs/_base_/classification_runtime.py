_base_ = './default_runtime.py'
default_scope = 'mmpretrain'
visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
default_hooks = dict(logger=dict(interval=100), checkpoint=dict(save_best='accuracy/top1'))
val_evaluator = test_evaluator = dict(type='Accuracy', topk=(1, 5), thrs=None)
