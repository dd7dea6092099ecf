# Pretraining of RepVGG-A0 on your own images, in data_root/train/CLASS/ and data_root/val/CLASS/; the folders name the classes.
# python tools/classify_train.py configs/repvgg_a0_folder.py
_base_ = 'repvgg_a0_imagenet.py'
data_root = 'data/my_images'
dataset = dict(type='repvgg_seg.ImageFolder', data_root=data_root)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader
model = dict(head=dict(num_classes=None))  # As many as the training set has folders.
