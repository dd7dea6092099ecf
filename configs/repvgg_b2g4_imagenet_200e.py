# RepVGG-B2g4 on ImageNet, strong recipe: paper 79.38 top-1 (Table 5).
# torchrun --nproc_per_node 8 tools/classify_train.py configs/repvgg_b2g4_imagenet_200e.py --launcher pytorch
_base_ = ['_base_/models/repvgg_classifier_smooth_mixup.py', '_base_/datasets/imagenet_autoaugment.py',
          '_base_/schedules/imagenet_200e.py', '_base_/classification_runtime.py']
model = dict(backbone=dict(arch='B2g4'), head=dict(in_channels=2560))
