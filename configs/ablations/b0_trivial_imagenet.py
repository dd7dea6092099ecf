# RepVGG-B0 on ImageNet. The kernel I + W: paper 73.51 top-1 (Table 7, "trivial re-param").
# torchrun --nproc_per_node 8 tools/classify_train.py configs/ablations/b0_trivial_imagenet.py --launcher pytorch
_base_ = '../repvgg_b0_imagenet.py'
model = dict(backbone=dict(block=dict(type='TrivialConv')))
