# RepVGG-B3 on ImageNet, strong recipe: paper 80.52 top-1 (Table 5).
# torchrun --nproc_per_node 8 tools/classify_train.py configs/repvgg_b3_imagenet_200e.py --launcher pytorch
_base_ = 'repvgg_b2g4_imagenet_200e.py'
model = dict(backbone=dict(arch='B3'))
