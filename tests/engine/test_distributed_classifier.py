"""Two gloo processes train a classifier; killed, they go on where the last checkpoint left off."""
import re
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from processes import start_ranks
from tiny import ROOT, write_classifier_config, write_noise

pytestmark = pytest.mark.whole

EPOCHS = 16
CHANGES = """
_base_ = '{base}'
val_dataloader = dict(batch_size=2)
default_hooks = dict(checkpoint=dict(save_best=None, max_keep_ckpts=-1))
auto_scale_lr = dict(base_batch_size=8)
"""


@pytest.fixture
def config(tmp_path) -> Path:
    """Two steps of 8 images an epoch, and a checkpoint after each."""
    data = write_noise(tmp_path / 'folders', 'ab', train=8, val=3)
    path = tmp_path / 'config.py'
    path.write_text(CHANGES.format(base=write_classifier_config(tmp_path / 'base.py', data, EPOCHS)))
    return path


def start(config: Path, *options: str) -> list[subprocess.Popen]:
    return start_ranks(ROOT / 'tools/classify_train.py', config, '--work-dir', config.parent / 'run', '--launcher', 'pytorch',
                       *options)


def last_epoch(config: Path) -> int:
    """Epoch of the last checkpoint that was written to the end; 0 if there is none."""
    pointer = config.parent / 'run/last_checkpoint'
    match = re.search(r'epoch_(\d+)\.pth$', pointer.read_text()) if pointer.exists() else None
    return int(match[1]) if match else 0


def steps(log: str) -> list[tuple[str, str, str]]:
    """Epoch, iteration and learning rate of every logged step."""
    return re.findall(r'Epoch\(train\)\s+\[ *(\d+)\]\[ *(\d+)/2\].*? lr: (\S+)', log)


def test_killed_and_resumed(config):
    first = start(config)
    try:
        deadline = time.monotonic() + 120
        while last_epoch(config) < 3:
            assert all(process.poll() is None for process in first) and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        for process in first:
            process.kill()
    before = first[0].communicate(timeout=60)[0]
    assert '4 images x 2 process(es) = 8 images a step; learning rate x 1 (the config is for 8)' in before
    assert 3 <= (last := last_epoch(config)) < EPOCHS, 'the process was not killed in the middle'

    second = start(config, '--resume')
    after, _ = second[0].communicate(timeout=240)
    assert [process.wait(60) for process in second] == [0, 0], after[-3000:]
    assert f'resumed epoch: {last}, iter: {2 * last}' in after
    resumed = steps(after)
    assert [(int(epoch), int(step)) for epoch, step, _ in resumed] == [
        (epoch, step) for epoch in range(last + 1, EPOCHS + 1) for step in (1, 2)]
    for (epoch, step, rate) in resumed:
        # Cosine over all steps from 0.1.
        done = 2 * (int(epoch) - 1) + int(step) - 1
        assert float(rate) == pytest.approx(0.05 * (1 + np.cos(np.pi * done / (2 * EPOCHS))), rel=1e-3, abs=1e-6)
    assert steps(before)[:3] == [('1', '1', '1.0000e-01'), ('1', '2', '9.9759e-02'), ('2', '1', '9.9039e-02')]
    assert f'Epoch(val) [{EPOCHS}][2/2]' in after and 'accuracy/top1' in after


def test_predictions_of_two_processes_are_in_order(config):
    torch.manual_seed(0)
    init_default_scope('mmpretrain')
    model = MODELS.build(Config.fromfile(config).model | dict(head=dict(type='LinearClsHead', num_classes=2, in_channels=64)))
    torch.save(model.state_dict(), config.parent / 'model.pth')
    arguments = [ROOT / 'tools/classify_test.py', config, config.parent / 'model.pth', '--work-dir', config.parent / 'run']
    tables = []
    for ranks, launcher in ((1, 'none'), (2, 'pytorch')):
        out = config.parent / f'{ranks}.csv'
        for process in start_ranks(*arguments, '--out', out, '--launcher', launcher, ranks=ranks):
            output, _ = process.communicate(timeout=240)
            assert process.returncode == 0, output[-3000:]
        tables.append(out.read_text())
    assert tables[0] == tables[1] and tables[0].count('.png') == 6
