# RepVGG-A1 on ImageNet, simple recipe: paper 74.46 top-1 (Table 4).
# torchrun --nproc_per_node 8 tools/classify_train.py configs/repvgg_a1_imagenet.py --launcher pytorch
_base_ = 'repvgg_a0_imagenet.py'
model = dict(backbone=dict(arch='A1'), head=dict(in_channels=1280))
