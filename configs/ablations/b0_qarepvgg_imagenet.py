# QARepVGG-B0 on ImageNet: made for 8 bits (Chu et al., AAAI 2024), not in the paper.
# torchrun --nproc_per_node 8 tools/classify_train.py configs/ablations/b0_qarepvgg_imagenet.py --launcher pytorch
_base_ = '../repvgg_b0_imagenet.py'
model = dict(backbone=dict(block=dict(type='QARepConv')))
