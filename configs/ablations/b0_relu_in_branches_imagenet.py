# RepVGG-B0 on ImageNet. ReLU in each branch, which cannot be fused: paper 75.69 top-1 (Table 7, "+ReLU in branches").
# torchrun --nproc_per_node 8 tools/classify_train.py configs/ablations/b0_relu_in_branches_imagenet.py --launcher pytorch
_base_ = '../repvgg_b0_imagenet.py'
model = dict(backbone=dict(block=dict(type='ReLUInBranches')))
