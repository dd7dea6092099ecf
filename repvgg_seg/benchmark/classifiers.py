"""The classifiers of the paper's Tables 4 and 5: the numbers in the paper, and the configs from which they are built."""
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope

from ..core.errors import UserError
from ..models.archs import ARCHS

CLASSES = 1000


class Row(NamedTuple):
    """Row of Table 4 (120 epochs) or 5 (200 epochs, more augmentation).

    Args:
        top1: top-1 accuracy in percent.
        params: parameters in millions, with batch norms folded, truncated (not rounded) to two decimals.
        flops: billions of multiply-adds at 224x224.
        muls: billions of multiplications with Winograd's F(2x2, 3x3); None if the paper does not give them.
    """
    top1: float
    params: float
    flops: float
    muls: float | None


PAPER = {
    'RepVGG-A0': Row(72.41, 8.30, 1.4, 0.7),
    'ResNet-18': Row(71.16, 11.68, 1.8, 1.0),
    'ResNet-34': Row(74.17, 21.78, 3.7, 1.8),
    'RepVGG-A1': Row(74.46, 12.78, 2.4, 1.3),
    'RepVGG-B0': Row(75.14, 14.33, 3.1, 1.6),
    'ResNet-50': Row(76.31, 25.53, 3.9, 2.8),
    'RepVGG-A2': Row(76.48, 25.49, 5.1, 2.7),
    'ResNet-101': Row(77.21, 44.49, 7.6, 5.5),
    'RepVGG-B1g4': Row(77.58, 36.12, 7.3, 3.9),
    'EfficientNet-B0': Row(75.11, 5.26, 0.4, None),
    'RepVGG-B1g2': Row(77.78, 41.36, 8.8, 4.6),
    'ResNet-152': Row(77.78, 60.11, 11.3, 8.1),
    'RepVGG-B1': Row(78.37, 51.82, 11.8, 5.9),
    'RepVGG-B2g4': Row(78.50, 55.77, 11.3, 6.0),
    'RepVGG-B2': Row(78.78, 80.31, 18.4, 9.1),
    'RepVGG-B3g4': Row(80.21, 75.62, 16.1, 8.4),
    'RepVGG-B3': Row(80.52, 110.96, 26.2, 12.9),
    'VGG-16': Row(72.21, 138.35, 15.5, 6.9),
    'ResNeXt-50': Row(77.46, 24.99, 4.2, 4.1),
    'ResNeXt-101': Row(78.42, 44.10, 8.0, 7.9),
    'RegNetX-3.2GF': Row(77.98, 15.26, 3.2, 2.9),
    'RegNetX-12GF': Row(80.55, 46.05, 12.1, 10.9),
    'EfficientNet-B3': Row(79.31, 12.19, 1.8, None),
}

# MMPretrain's backbone and its number of output channels. As in the original, the stride of a ResNet block is in its first 1x1
# convolution ('caffe'). If it were in the 3x3 convolution, ResNet-50 would have 4.1 billion FLOPs, not the paper's 3.9.
BACKBONES: dict[str, tuple[dict[str, object], int]] = {
    **{f'RepVGG-{name}': (dict(type='repvgg_seg.RepVGG', arch=name), arch.stage_widths[-1]) for name, arch in ARCHS.items()},
    **{f'ResNet-{depth}': (dict(type='ResNet', depth=depth, style='caffe'), 512 if depth < 50 else 2048)
       for depth in (18, 34, 50, 101, 152)},
    **{f'ResNeXt-{depth}': (dict(type='ResNeXt', depth=depth, groups=32, width_per_group=4), 2048) for depth in (50, 101)},
    'RegNetX-3.2GF': (dict(type='RegNet', arch='regnetx_3.2gf'), 1008),
    'RegNetX-12GF': (dict(type='RegNet', arch='regnetx_12gf'), 2240),
    'EfficientNet-B0': (dict(type='EfficientNet', arch='b0'), 1280),
    'EfficientNet-B3': (dict(type='EfficientNet', arch='b3'), 1536),
}
NAMES = (*BACKBONES, 'VGG-16')


def classifier_config(name: str) -> dict:
    """Config of MMPretrain's ``ImageClassifier`` for a name in ``NAMES``."""
    if name == 'VGG-16':  # Its three linear layers are part of MMPretrain's backbone.
        return dict(type='ImageClassifier', backbone=dict(type='VGG', depth=16, num_classes=CLASSES), head=dict(type='ClsHead'))
    backbone, channels = BACKBONES[name]
    return dict(type='ImageClassifier', backbone=dict(backbone), neck=dict(type='GlobalAveragePooling'),
                head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=channels))


def model_config(name: str, options: Mapping[str, object] = {}) -> ConfigDict:
    """Config of a model without pretrained weights. Its scope becomes the default scope.

    Args:
        name: one of ``NAMES``, or path of a config file.
        options: settings to change in a config file, by their dotted keys.

    Raises:
        UserError: the name is neither.
    """
    if name in NAMES:
        config = Config(dict(default_scope='mmpretrain', model=classifier_config(name)))
    elif Path(name).is_file() and 'model' in (config := Config.fromfile(name)):
        config.merge_from_dict(dict(options))
    else:
        raise UserError(f'{name} is neither the config of a model nor one of {", ".join(NAMES)}')
    config.model.backbone.init_cfg = None
    init_default_scope(config.get('default_scope', 'mmseg'))
    return config.model
