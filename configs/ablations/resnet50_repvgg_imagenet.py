# ResNet-50 with a RepVGG block in the place of every 3x3 layer, on ImageNet: paper 76.34 top-1 (section 4.2).
# torchrun --nproc_per_node 8 tools/classify_train.py configs/ablations/resnet50_repvgg_imagenet.py --launcher pytorch
_base_ = 'resnet50_imagenet.py'
custom_imports = dict(imports='repvgg_seg.models.variants.resnet')
model = dict(backbone=dict(type='repvgg_seg.ResNetRepVGG'))
