# PSPNet-RepVGG-A0 on CamVid from scratch, small enough for two CPU cores. Result: docs/measurements.md.
# python tools/train.py configs/pspnet_repvgg_a0_camvid.py --amp
_base_ = ['_base_/models/pspnet_repvgg.py', '_base_/datasets/camvid.py', '_base_/schedules/camvid_40e.py',
          '_base_/segmentation_runtime.py']
# With class weights MMSegmentation's loss supports only avg_non_ignore=False.
loss = dict(avg_non_ignore=False, class_weight={{_base_.class_weight}})
model = dict(
    data_preprocessor=dict(size=(192, 256)),
    backbone=dict(arch='A0'),
    decode_head=dict(in_channels=1280, channels=128, num_classes=11, loss_decode=loss),
    auxiliary_head=dict(in_channels=192, channels=64, num_classes=11, loss_decode=loss),
    test_cfg=dict(_delete_=True, mode='whole'))
