# RepVGG-B0 on ImageNet. Asymmetric convolution block: paper 73.58 top-1 (Table 7, "ACB").
# torchrun --nproc_per_node 8 tools/classify_train.py configs/ablations/b0_asymmetric_imagenet.py --launcher pytorch
_base_ = '../repvgg_b0_imagenet.py'
model = dict(backbone=dict(block=dict(type='AsymmetricConv')))
