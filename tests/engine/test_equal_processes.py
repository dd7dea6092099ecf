"""One, two and four processes that share a batch come to the same weights, also when a run goes on with another number of them.

python -m pytest -s -m slow tests/engine/test_equal_processes.py prints the differences after 50 iterations.
"""
import os
from pathlib import Path

import pytest
import torch
from processes import start_ranks
from tiny import write_segmentor_config

from repvgg_seg.core.reading import read_checkpoint
from repvgg_seg.datasets.toy import write_toy_streets

pytestmark = pytest.mark.slow
EPOCHS = 10
IMAGES, BATCH = 40, 8
# Sums in another order, relative to the largest weight of a tensor. In float32 a rounded value that passes zero before a ReLU
# can switch a gradient, which is no fault: so float64 is compared. DTYPE=float32 prints what that gives.
DTYPE = os.environ.get('DTYPE', 'float64')
TOLERANCE = dict(float64=1e-8, float32=1e-2)[DTYPE]
# Each process divides its loss by its own pixels, so only a loss over all pixels is the same for any division of a batch.
CHANGES = """
_base_ = '{base}'
loss = dict(_delete_=True, type='CrossEntropyLoss')
model = dict(decode_head=dict(dropout_ratio=0, loss_decode=loss), auxiliary_head=dict(dropout_ratio=0, loss_decode=loss))
train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='repvgg_seg.LoadImage'), dict(type='repvgg_seg.LoadLabels'),
    dict(type='RandomResize', scale=(64, 48), ratio_range=(1.0, 1.5), keep_ratio=True), dict(type='RandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_size=(48, 64)), dict(type='PhotoMetricDistortion'), dict(type='PackSegInputs')]))
train_cfg = dict(max_epochs={epochs}, val_interval=100)
param_scheduler = [dict(type='PolyLR', power=0.9, by_epoch=True, end={epochs}, convert_to_iter_based=True)]
default_hooks = dict(checkpoint=dict(save_best=None))
auto_scale_lr = dict(base_batch_size={batch})
"""
# torch's SyncBatchNorm, which GPUs train with, refuses CPUs: the statistics are frozen instead.
TRAIN = """
import sys
import torch
from mmengine.config import Config
from mmseg.models import EncoderDecoder
from torch.nn.modules.batchnorm import _BatchNorm
from repvgg_seg.engine.runner import Runner
from repvgg_seg.engine.segmentation import train_segmentor

dtype = getattr(torch, sys.argv[5])
wrap, extract = Runner.wrap_model, EncoderDecoder.extract_feat
Runner.wrap_model = lambda self, settings, model: wrap(self, settings, model.to(dtype))
EncoderDecoder.extract_feat = lambda self, images: extract(self, images.to(dtype))

def train(self, mode=True, plain=EncoderDecoder.train):
    plain(self, mode)
    for module in self.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    return self

EncoderDecoder.train = train
config = Config.fromfile(sys.argv[1])
config.work_dir, config.train_dataloader.batch_size, config.launcher = sys.argv[2], int(sys.argv[3]), sys.argv[4]
config.resume = 'resume' in sys.argv
if 'stop' in sys.argv:
    # One epoch of a schedule for all of them.
    config.train_cfg.max_epochs = 1
train_segmentor(config)
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('equal')
    write_toy_streets(folder / 'streets', dict(train=IMAGES, val=2), 48, 64)
    base = write_segmentor_config(folder / 'tiny.py', folder / 'streets')
    (folder / 'config.py').write_text(CHANGES.format(base=base, epochs=EPOCHS, batch=BATCH))
    (folder / 'train.py').write_text(TRAIN)
    return folder


def train(folder: Path, processes: int, *words: str, work_dir: str = '') -> Path:
    """Train with a number of processes; the work dir."""
    work_dir = folder / (work_dir or str(processes))
    launcher = 'none' if processes == 1 else 'pytorch'
    for process in start_ranks(folder / 'train.py', folder / 'config.py', work_dir, BATCH // processes, launcher, DTYPE, *words,
                               ranks=processes):
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output[-3000:]
    return work_dir


@pytest.fixture(scope='module')
def alone(folder) -> dict[str, torch.Tensor]:
    """The weights that one process comes to."""
    return read_checkpoint(train(folder, 1) / f'epoch_{EPOCHS}.pth')['state_dict']


def difference(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """The largest between weights, relative to the largest weight of the same tensor."""
    assert state.keys() == expected.keys()
    return max(((state[key] - expected[key]).abs().max() / expected[key].abs().max().clamp(min=1e-6)).item()
               for key in state if state[key].is_floating_point())


def test_one_process_moves_the_weights(folder, alone):
    """Else equal weights would show nothing."""
    first = read_checkpoint(folder / '1' / f'epoch_{EPOCHS - 1}.pth')['state_dict']
    assert difference(first, alone) > 1e-3


@pytest.mark.parametrize('processes', [2, 4])
def test_same_weights(folder, alone, processes):
    found = difference(read_checkpoint(train(folder, processes) / f'epoch_{EPOCHS}.pth')['state_dict'], alone)
    print(f'{processes} processes, {EPOCHS * IMAGES // BATCH} iterations, {DTYPE}: {found:.1e}')  # noqa: T201
    assert found < TOLERANCE


@pytest.mark.parametrize(('first', 'then'), [(4, 1), (1, 2)])
def test_resumed_with_another_number_of_processes(folder, alone, first, then):
    train(folder, first, 'stop', work_dir=f'{first}-{then}')
    work_dir = train(folder, then, 'resume', work_dir=f'{first}-{then}')
    found = difference(read_checkpoint(work_dir / f'epoch_{EPOCHS}.pth')['state_dict'], alone)
    print(f'{first}, then {then} processes: {found:.1e}')  # noqa: T201
    assert found < TOLERANCE
