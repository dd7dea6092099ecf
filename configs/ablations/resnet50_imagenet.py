# ResNet-50 on ImageNet, as the paper counts it, with the strides in the first 1x1 convolutions: paper 76.31 top-1 (Table 4).
# torchrun --nproc_per_node 8 tools/classify_train.py configs/ablations/resnet50_imagenet.py --launcher pytorch
_base_ = '../repvgg_b0_imagenet.py'
model = dict(backbone=dict(_delete_=True, type='ResNet', depth=50, style='caffe'), head=dict(in_channels=2048))
