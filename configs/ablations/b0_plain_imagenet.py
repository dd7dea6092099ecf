# RepVGG-B0 on ImageNet. Neither 1x1 nor identity branch: paper 72.39 top-1 (Table 6).
# torchrun --nproc_per_node 8 tools/classify_train.py configs/ablations/b0_plain_imagenet.py --launcher pytorch
_base_ = '../repvgg_b0_imagenet.py'
model = dict(backbone=dict(block=dict(type='PlainConv')))
