_base_ = './pspnet.py'
model = dict(backbone=dict(type='repvgg_seg.RepVGG', dilation='full', out_indices=(2, 3)))
