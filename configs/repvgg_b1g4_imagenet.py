# RepVGG-B1g4 on ImageNet, simple recipe: paper 77.58 top-1 (Table 4).
# torchrun --nproc_per_node 8 tools/classify_train.py configs/repvgg_b1g4_imagenet.py --launcher pytorch
_base_ = 'repvgg_a0_imagenet.py'
model = dict(backbone=dict(arch='B1g4'), head=dict(in_channels=2048))
