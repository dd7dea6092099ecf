# RepVGG-B0 on ImageNet. Identity branch, but no 1x1 branch: paper 74.79 top-1 (Table 6).
# torchrun --nproc_per_node 8 tools/classify_train.py configs/ablations/b0_identity_only_imagenet.py --launcher pytorch
_base_ = '../repvgg_b0_imagenet.py'
model = dict(backbone=dict(block=dict(type='IdentityOnly')))
