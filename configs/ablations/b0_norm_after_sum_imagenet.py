# RepVGG-B0 on ImageNet. Batch norm after the addition, none in the branches: paper 73.52 top-1 (Table 7, "post-addition BN").
# torchrun --nproc_per_node 8 tools/classify_train.py configs/ablations/b0_norm_after_sum_imagenet.py --launcher pytorch
_base_ = '../repvgg_b0_imagenet.py'
model = dict(backbone=dict(block=dict(type='NormAfterSum')))
