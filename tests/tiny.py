"""Tiny datasets and configs, for tests that train."""
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
SEGMENTOR = """
_base_ = '{root}/configs/pspnet_repvgg_a0_toystreets.py'
loss = dict(class_weight=None)  # MMSegmentation 1.2.2 cannot have them beside ignored pixels.
model = dict(
    data_preprocessor=dict(size=(48, 64)),
    backbone=dict(arch=dict(_delete_=True, num_blocks=(1, 1, 5, 1), width_factors=(0.25, 0.125, 0.125, 0.125))),
    decode_head=dict(in_channels=64, channels=16, pool_scales=(1, 6), loss_decode=loss),  # Exporting a scale takes seconds.
    auxiliary_head=dict(in_channels=32, channels=16, loss_decode=loss))
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(data_root='{data}'))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='{data}'))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2, val_interval=1)
param_scheduler = [dict(type='PolyLR', power=0.9, by_epoch=True, end=2, convert_to_iter_based=True)]
default_hooks = dict(logger=dict(interval=1))
auto_scale_lr = dict(base_batch_size=2)
"""
CLASSIFIER = """
_base_ = '{root}/configs/repvgg_a0_folder.py'
train_pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=32), dict(type='PackInputs')]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=36, edge='short'),
                 dict(type='CenterCrop', crop_size=32), dict(type='PackInputs')]
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='{data}', pipeline=train_pipeline))
val_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False,
                      dataset=dict(data_root='{data}', pipeline=test_pipeline))
test_dataloader = val_dataloader
model = dict(backbone=dict(arch=dict(_delete_=True, num_blocks=(1, 1, 5, 1), width_factors=(0.25, 0.125, 0.125, 0.125))),
             head=dict(in_channels=64))
train_cfg = dict(max_epochs={epochs})
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, end={epochs}, convert_to_iter_based=True)]
default_hooks = dict(logger=dict(interval=1))
auto_scale_lr = dict(base_batch_size=4)
"""


def write_segmentor_config(path: Path, data: Path) -> Path:
    """The config of a segmentor on drawn streets of 48x64 pixels below ``data``."""
    path.write_text(SEGMENTOR.format(root=ROOT, data=data))
    return path


def write_classifier_config(path: Path, data: Path, epochs: int = 2) -> Path:
    """The config of a classifier on what :func:`write_noise` wrote below ``data``."""
    path.write_text(CLASSIFIER.format(root=ROOT, data=data, epochs=epochs))
    return path


def write_noise(root: Path, classes: Iterable[str], train: int, val: int) -> Path:
    """Noise of 40x48 pixels in one folder per class; a class that is named by a color is tinted with it.

    Args:
        root: where to make ``train`` and ``val``.
        classes: names of the folders.
        train, val: images a class.
    """
    random = np.random.default_rng(0)
    for split, count in (('train', train), ('val', val)):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 120, (40, 48, 3), np.uint8)
                if name in (colors := ('red', 'green', 'blue')):
                    pixels[..., colors.index(name)] += 120
                Image.fromarray(pixels).save(root / split / name / f'{index}.png')
    return root
