"""The recipes of docs/use-in-your-project.md, run as they are printed, each in a folder of its own with tiny data."""
import os
import re
import subprocess
import sys
from pathlib import Path

import mmseg
import numpy as np
import pytest
import tiny
import torch
from helpers import assert_relatively_close, randomize
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from PIL import Image
from processes import FOR_THEIR_TOOLS

from repvgg_seg.models import RepVGG
from repvgg_seg.models.archs import ARCHS
from repvgg_seg.models.pretrained import load_model

pytestmark = pytest.mark.whole

DOCUMENT = (tiny.ROOT / 'docs' / 'use-in-your-project.md').read_text()
RECIPES = dict(re.findall(r'^## (.+?)\n(.*?)(?=^## |\Z)', DOCUMENT, re.MULTILINE | re.DOTALL))
# The user's own config: two iterations on images of 48x64 pixels.
USERS = """
norm_cfg = dict(type='SyncBN', requires_grad=True)
head = dict(num_classes=3, norm_cfg=norm_cfg, loss_decode=dict(type='CrossEntropyLoss'))
model = dict(
    type='EncoderDecoder', pretrained=None, test_cfg=dict(mode='whole'),
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[0, 0, 0], std=[255, 255, 255], size=(48, 64), seg_pad_val=255),
    {model})
dataset = dict(type='BaseSegDataset', data_root='data/my_streets', img_suffix='.png', seg_map_suffix='.png', metainfo=dict(
    classes=['road', 'car', 'other'], palette=[[128, 64, 128], [0, 0, 142], [70, 70, 70]]))
pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
train_dataloader = dict(batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler'), dataset=dict(
    **dataset, pipeline=pipeline, data_prefix=dict(img_path='train', seg_map_path='train_labels')))
val_dataloader = test_dataloader = dict(batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler'), dataset=dict(
    **dataset, pipeline=pipeline, data_prefix=dict(img_path='val', seg_map_path='val_labels')))
val_evaluator = test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
val_cfg, test_cfg = dict(type='ValLoop'), dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2))
default_scope = 'mmseg'
"""
PSPNET_R50 = """backbone=dict(type='ResNetV1c', depth=50, norm_cfg=norm_cfg),
    decode_head=dict(type='PSPHead', in_channels=2048, in_index=3, channels=16, **head),
    auxiliary_head=dict(type='FCNHead', in_channels=1024, in_index=2, channels=16, num_convs=1, **head)"""
UPERNET = """backbone=dict(type='mmpretrain.RepVGG', arch='A0', out_indices=(0, 1, 2, 3), norm_cfg=norm_cfg),
    decode_head=dict(type='UPerHead', in_channels=[48, 96, 192, 1280], in_index=[0, 1, 2, 3], channels=16, **head)"""


def write_streets(folder: Path) -> None:
    """Images of noise with labels, in the layout of the recipes."""
    random = np.random.default_rng(0)
    for split, count in (('train', 4), ('val', 2)):
        for name, shape, largest in ((split, (48, 64, 3), 256), (f'{split}_labels', (48, 64), 3)):
            (folder / name).mkdir(parents=True)
            for index in range(count):
                Image.fromarray(random.integers(0, largest, shape, np.uint8)).save(folder / name / f'{index}.png')


def follow(recipe: str, folder: Path, **options: str) -> str:
    """Write a recipe's files, then run its commands.

    Args:
        recipe: heading.
        folder: where.
        options: what to add to the command of a tool, by its name, to make it short.

    Returns:
        What the commands wrote.
    """
    blocks = re.findall(r'^```(\w+)\n(.*?)^```', RECIPES[recipe], re.MULTILINE | re.DOTALL)
    files = {re.match('# (.+)', text)[1]: text for kind, text in blocks if kind == 'python'}
    for name, text in files.items():
        (folder / name).write_text(text)
    environment = os.environ | FOR_THEIR_TOOLS | dict(
        PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}', PYTHONPATH=str(tiny.ROOT))
    said = ''
    for command in [line for kind, text in blocks if kind == 'bash' for line in text.splitlines()]:
        command += ' ' + options.get(Path(command.split()[1]).stem, '')
        run = subprocess.run(['bash', '-ec', command], cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
        assert run.returncode == 0, f'{command}\n{run.stdout}{run.stderr}'
        said += run.stdout + run.stderr
    return said


@pytest.fixture
def folder(tmp_path) -> Path:
    write_streets(tmp_path / 'data' / 'my_streets')
    return tmp_path


@pytest.fixture
def mm_folder(folder) -> Path:
    """With MMSegmentation's tools in it, as in a checkout of that."""
    (folder / 'tools').symlink_to(Path(mmseg.__file__).parent / '.mim' / 'tools')
    return folder


def test_in_an_mmsegmentation_config(mm_folder):
    (mm_folder / 'pspnet_r50.py').write_text(USERS.format(model=PSPNET_R50))
    torch.save(official_weights('A0'), mm_folder / 'RepVGG-A0-train.pth')
    said = follow('RepVGG in an MMSegmentation config', mm_folder)
    assert 'backbone tensors from RepVGG-A0-train.pth (official layout)' in said
    assert len(set(re.findall(r'(?:Iter|Epoch)\(test\) .*mIoU: (\S+)', said))) == 1 == said.count('logits differ by')


def official_weights(arch: str) -> dict:
    from repvgg_seg.models.layouts import LAYOUTS
    return {LAYOUTS['official'].from_own(key): value for key, value in RepVGG(arch).state_dict().items()}


def test_from_images_to_segmentation(folder):
    for name in ('tools', 'configs'):
        (folder / name).symlink_to(tiny.ROOT / name)
    tiny.write_noise(folder / 'data' / 'my_images', ('blue', 'green', 'red'), train=2, val=1)
    short = '--cfg-options train_cfg.max_epochs=1 train_dataloader.num_workers=0 val_dataloader.num_workers=0'
    said = follow('From your own images to your own segmentation', folder,
                  classify_train=f'{short} train_dataloader.batch_size=2 data_preprocessor.to_rgb=True '
                                 'train_dataloader.dataset.pipeline.1.scale=64',
                  train=f'{short} "train_dataloader.dataset.pipeline.4.crop_size=(49,65)" '
                        '"model.data_preprocessor.size=(49,65)"',
                  deploy='--cfg-options test_dataloader.num_workers=0')
    assert re.search(r'backbone tensors from work_dirs/repvgg_a0_folder/\S+ \(own layout\)', said)
    assert 'No fault in 6 pairs' in said
    assert len(list((folder / 'pictures').glob('*_overlay.png'))) == 2


@torch.no_grad()
def test_a_model_of_mmpretrain(mm_folder):
    (mm_folder / 'upernet.py').write_text(USERS.format(model=UPERNET))
    peer = build(Config.fromfile(mm_folder / 'upernet.py'))
    torch.save(dict(state_dict=randomize(peer).state_dict(), meta={}), mm_folder / 'upernet.pth')
    follow('A model that you trained with MMPretrain\'s RepVGG', mm_folder)
    fused = build(Config.fromfile(mm_folder / 'fused' / 'config.py'))
    load_model(fused, mm_folder / 'fused' / 'model.pth')
    assert not [module for module in fused.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    image = torch.randn(1, 3, 48, 64)
    peer.eval(), fused.eval()
    assert_relatively_close(fused(image), peer(image), 1e-4)


def build(config: Config):
    from mmseg.registry import MODELS
    init_default_scope('mmseg')
    return revert_sync_batchnorm(MODELS.build(config.model))


def test_widths_of_the_archs():
    rows = re.findall(r'^\| (?:arch|channels) \|(.*)\|$', DOCUMENT, re.MULTILINE)
    archs, widths = ([cell.strip() for cell in row.split('|')] for row in rows)
    told = {name: width for names, width in zip(archs, widths) for name in names.split(', ')}
    for name, arch in ARCHS.items():
        assert told[name if name in told else name[:2]] == ', '.join(map(str, arch.stage_widths))
