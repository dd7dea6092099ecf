# The paper's baselines: ResNet with the deep stem, every 3x3 of the last two stages dilated, by 2 and 4.
_base_ = './pspnet.py'
model = dict(
    backbone=dict(type='ResNetV1c', num_stages=4, out_indices=(2, 3), dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1),
                  norm_cfg=dict(type='BN', requires_grad=True), norm_eval=False, style='pytorch',
                  contract_dilation=False),
    decode_head=dict(in_channels=2048),
    auxiliary_head=dict(in_channels=1024))
