# RepVGG-B1g2 on ImageNet, simple recipe: paper 77.78 top-1 (Table 4).
# torchrun --nproc_per_node 8 tools/classify_train.py configs/repvgg_b1g2_imagenet.py --launcher pytorch
_base_ = 'repvgg_a0_imagenet.py'
model = dict(backbone=dict(arch='B1g2'), head=dict(in_channels=2048))
