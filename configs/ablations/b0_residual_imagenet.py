# RepVGG-B0's layers as a ResNet, on ImageNet: paper 74.56 top-1 (Table 7, "Residual Reorg").
# torchrun --nproc_per_node 8 tools/classify_train.py configs/ablations/b0_residual_imagenet.py --launcher pytorch
_base_ = '../repvgg_b0_imagenet.py'
model = dict(backbone=dict(type='repvgg_seg.ResidualRepVGG'))
