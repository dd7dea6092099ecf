"""Tiny data sets, a tiny segmentor and classifier for them, and a way to run the tools without a new process."""
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repvgg_seg.datasets.toy import write_toy_streets

ROOT = Path(__file__).parents[2]
CONFIG = """
_base_ = '{root}/configs/pspnet_repvgg_a0_toystreets.py'
model = dict(
    data_preprocessor=dict(size=(48, 64)),
    backbone=dict(arch=dict(_delete_=True, num_blocks=(1, 1, 5, 1), width_factors=(0.25, 0.125, 0.125, 0.125))),
    decode_head=dict(in_channels=64, channels=16), auxiliary_head=dict(in_channels=32, channels=16))
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
train_pipeline = [dict(type='repvgg_seg.LoadImage'), dict(type='Resize', scale=32), dict(type='PackInputs')]
test_pipeline = [dict(type='repvgg_seg.LoadImage'), dict(type='ResizeEdge', scale=36, edge='short'),
                 dict(type='CenterCrop', crop_size=32), dict(type='PackInputs')]
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='{data}', pipeline=train_pipeline))
val_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False,
                      dataset=dict(data_root='{data}', pipeline=test_pipeline))
test_dataloader = val_dataloader
model = dict(backbone=dict(arch=dict(_delete_=True, num_blocks=(1, 1, 5, 1), width_factors=(0.25, 0.125, 0.125, 0.125))),
             head=dict(in_channels=64))
train_cfg = dict(max_epochs=2)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, end=2, convert_to_iter_based=True)]
default_hooks = dict(logger=dict(interval=1))
auto_scale_lr = dict(base_batch_size=4)
"""
FOLDERS = ('blue', 'green', 'red')


@dataclass
class Result:
    """How a tool ended."""
    code: int
    out: str
    err: str


@pytest.fixture
def run_tool(capsys, monkeypatch) -> Callable[..., Result]:
    """Run ``tools/NAME.py`` with arguments, in this process, as if from a shell."""

    def run(name: str, *arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, 'argv', [f'tools/{name}.py', *map(str, arguments)])
        monkeypatch.setenv('LOCAL_RANK', '0')
        capsys.readouterr()
        code = 0
        try:
            runpy.run_path(str(ROOT / 'tools' / f'{name}.py'), run_name='__main__')
        except SystemExit as stop:
            code = stop.code or 0
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture(scope='session')
def streets(tmp_path_factory) -> Path:
    """A set of 4 training and 3 validation scenes of 48x64 pixels."""
    folder = tmp_path_factory.mktemp('data') / 'streets'
    write_toy_streets(folder, dict(train=4, val=3), 48, 64)
    return folder


@pytest.fixture(scope='session')
def config(streets) -> Path:
    path = streets.parent / 'tiny.py'
    path.write_text(CONFIG.format(root=ROOT, data=streets))
    return path


@pytest.fixture(scope='session')
def checkpoint(config, tmp_path_factory) -> Path:
    """A checkpoint of one short training."""
    from mmengine.config import Config

    from repvgg_seg.engine.segmentor import train_segmentor
    loaded = Config.fromfile(config)
    loaded.work_dir = str(tmp_path_factory.mktemp('trained'))
    return train_segmentor(loaded)


@pytest.fixture(scope='session')
def folders(tmp_path_factory) -> Path:
    """A set of noise in three colors, one folder for each: 4 training and 2 validation images of 40x48 pixels a class."""
    root = tmp_path_factory.mktemp('data') / 'folders'
    random = np.random.default_rng(0)
    for split, count in (('train', 4), ('val', 2)):
        for channel, name in zip((2, 1, 0), FOLDERS):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 120, (40, 48, 3), np.uint8)
                pixels[..., channel] += 120
                Image.fromarray(pixels).save(root / split / name / f'{index}.png')
    return root


@pytest.fixture(scope='session')
def classifier_config(folders) -> Path:
    path = folders.parent / 'tiny_classifier.py'
    path.write_text(CLASSIFIER.format(root=ROOT, data=folders))
    return path


@pytest.fixture(scope='session')
def classifier_checkpoint(classifier_config, tmp_path_factory) -> Path:
    """A checkpoint of one short training of the classifier."""
    from mmengine.config import Config

    from repvgg_seg.engine.classifier import train_classifier
    loaded = Config.fromfile(classifier_config)
    loaded.work_dir = str(tmp_path_factory.mktemp('classifier'))
    return train_classifier(loaded)
