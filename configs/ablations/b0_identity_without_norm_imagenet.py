# RepVGG-B0 on ImageNet. Identity branch without batch norm: paper 74.18 top-1 (Table 7, "identity w/o BN").
# torchrun --nproc_per_node 8 tools/classify_train.py configs/ablations/b0_identity_without_norm_imagenet.py --launcher pytorch
_base_ = '../repvgg_b0_imagenet.py'
model = dict(backbone=dict(block=dict(type='IdentityWithoutNorm')))
