# RepVGG-B0 on ImageNet. The layer of DiracNets: paper 73.97 top-1 (Table 7, "DiracNet").
# torchrun --nproc_per_node 8 tools/classify_train.py configs/ablations/b0_dirac_imagenet.py --launcher pytorch
_base_ = '../repvgg_b0_imagenet.py'
model = dict(backbone=dict(block=dict(type='DiracConv')))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(identity_scale=dict(decay_mult=0), weight_scale=dict(decay_mult=0))))
