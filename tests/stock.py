"""Small stand-ins for the datasets that MMSegmentation has configs for, in the layouts that these configs expect."""
import inspect
from collections.abc import Iterator
from pathlib import Path

import mmseg
import numpy as np
import tiny
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from PIL import Image

CONFIGS = Path(mmseg.__file__).parent / '.mim/configs/_base_/datasets'
SIZE = (48, 64)


def stock_config(name: str, root: Path) -> Config:
    """The config of a tiny segmentor on one of MMSegmentation's datasets, of which a stand-in is written.

    Args:
        name: of the file in MMSegmentation's ``configs/_base_/datasets``, without ending.
        root: folder for the stand-in and the config.
    """
    init_default_scope('mmseg')
    theirs = Config.fromfile(CONFIGS / f'{name}.py')
    config = Config.fromfile(tiny.write_segmentor_config(root / 'tiny.py', root))
    for split in ('train', 'val'):
        for position, dataset in enumerate(datasets_in(theirs[f'{split}_dataloader'].dataset)):
            write(dataset, root, [f'{split}{position}{letter}' for letter in 'ab'])
            dataset.data_root, dataset.serialize_data = str(root), False  # Serializing collects garbage, which takes time.
            for step in dataset.pipeline:
                shrink(step)
        config[f'{split}_dataloader'].dataset = theirs[f'{split}_dataloader'].dataset
    config.test_dataloader = config.val_dataloader
    classes = len(DATASETS.get(dataset.type).METAINFO['classes'])
    config.merge_from_dict(dict(model=dict(test_cfg=dict(mode='whole'), decode_head=dict(num_classes=classes),
                                           auxiliary_head=dict(num_classes=classes))))
    return config


def datasets_in(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """The configs of datasets inside wrappers."""
    inside = dataset.get('datasets') or [part for part in [dataset.get('dataset')] if part]
    for part in inside:
        yield from datasets_in(part)
    if not inside:
        yield dataset


def write(dataset: ConfigDict, root: Path, names: list[str]) -> None:
    """Images of a dataset, with labels in which every legal value occurs that has room, and its list of them."""
    kind = DATASETS.get(dataset.type)
    defaults = {key: value.default for key, value in inspect.signature(kind.__init__).parameters.items()}
    first = int(dataset.get('reduce_zero_label', defaults.get('reduce_zero_label', False)))
    legal = [*range(len(kind.METAINFO['classes']) + first), 255]
    random = np.random.default_rng(0)
    for name in names:
        for folder, suffix, pixels in (
                ('img_path', 'img_suffix', random.integers(0, 256, (*SIZE, 3), np.uint8)),
                ('seg_map_path', 'seg_map_suffix', np.resize(np.array(legal, np.uint8), SIZE))):
            path = root / dataset.data_prefix[folder] / f'{name}{defaults.get(suffix, ".png")}'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    if dataset.get('ann_file'):
        (root / dataset.ann_file).parent.mkdir(parents=True, exist_ok=True)
        (root / dataset.ann_file).write_text('\n'.join(names))


def shrink(step: ConfigDict) -> None:
    """Make what a step of a pipeline gives small."""
    for key, size in dict(scale=SIZE[::-1], crop_size=SIZE, size=SIZE).items():
        if key in step:
            step[key] = size
