# RepVGG-A0 on ImageNet, simple recipe: paper 72.41 top-1 (Table 4).
# torchrun --nproc_per_node 8 tools/classify_train.py configs/repvgg_a0_imagenet.py --launcher pytorch
_base_ = ['_base_/models/repvgg_classifier.py', '_base_/datasets/imagenet.py', '_base_/schedules/imagenet_120e.py',
          '_base_/classification_runtime.py']
model = dict(backbone=dict(arch='A0'), head=dict(in_channels=1280))
