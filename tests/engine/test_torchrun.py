"""Under torchrun: one process that dies ends all of them, and a signal stops all after the same iteration."""
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import ROOT, write_segmentor_config

from repvgg_seg.core.reading import read_checkpoint
from repvgg_seg.datasets.toy import write_toy_streets
from repvgg_seg.engine.resuming import damage

pytestmark = pytest.mark.whole


@pytest.fixture
def run(tmp_path) -> Iterator[subprocess.Popen]:
    """Two processes that train for longer than a test takes."""
    write_toy_streets(tmp_path / 'streets', dict(train=40, val=2), 48, 64)
    config = write_segmentor_config(tmp_path / 'config.py', tmp_path / 'streets')
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2',
               ROOT / 'tools/train.py', config, '--work-dir', tmp_path / 'run', '--launcher', 'pytorch', '--cfg-options',
               'train_cfg.max_epochs=1000', 'train_cfg.val_interval=1000', 'default_hooks.checkpoint.interval=1000']
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
                               env=dict(os.environ, OMP_NUM_THREADS='1'))
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def wait_for_training(process: subprocess.Popen) -> list[int]:
    """Wait until it trains; the process ids of the ranks."""
    for line in process.stdout:
        if 'Epoch(train)' in line:
            return [int(child) for child in Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()]
    raise AssertionError('it ended before it trained')


def test_one_process_that_is_killed_ends_all(run):
    ranks = wait_for_training(run)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    killed = time.monotonic()
    output, _ = run.communicate(timeout=180)
    assert run.returncode != 0, output[-2000:]
    print(f'all ended {time.monotonic() - killed:.0f} s after one was killed')  # noqa: T201
    assert not [rank for rank in ranks if Path(f'/proc/{rank}/cmdline').exists()
                and b'train.py' in Path(f'/proc/{rank}/cmdline').read_bytes()]


@pytest.mark.slow
def test_signal_to_torchrun_leaves_a_checkpoint(run, tmp_path):
    wait_for_training(run)
    run.send_signal(signal.SIGTERM)
    output, _ = run.communicate(timeout=180)
    path = tmp_path / 'run/interrupted.pth'
    assert run.returncode != 0 and damage(path) is None, output[-2000:]
    checkpoint = read_checkpoint(path)
    assert output.count('stopped by SIGTERM after iteration') == 1
    assert f'after iteration {checkpoint["meta"]["iter"]};' in output and len(checkpoint['random_states']) == 2
