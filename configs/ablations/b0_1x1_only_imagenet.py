# RepVGG-B0 on ImageNet. 1x1 branch, but no identity branch: paper 73.15 top-1 (Table 6).
# torchrun --nproc_per_node 8 tools/classify_train.py configs/ablations/b0_1x1_only_imagenet.py --launcher pytorch
_base_ = '../repvgg_b0_imagenet.py'
model = dict(backbone=dict(block=dict(type='PointwiseOnly')))
