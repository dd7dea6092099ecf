"""A run that is killed with SIGKILL at random moments, also while it writes, and resumed ends as the one that never was.

KILLS=20 python -m pytest -s tests/engine/test_kills.py kills more often than the default, and prints what it saw.
"""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import write_segmentor_config

from repvgg_seg.datasets.toy import write_toy_streets

pytestmark = pytest.mark.whole

KILLS = int(os.environ.get('KILLS', 2))
# Random augmentation in workers that outlive epochs, dropout, and momentum: everything that has a state.
CHANGES = """
_base_ = '{base}'
train_dataloader = dict(num_workers=2, persistent_workers=True, dataset=dict(pipeline=[
    dict(type='repvgg_seg.LoadImage'), dict(type='repvgg_seg.LoadLabels'),
    dict(type='RandomResize', scale=(64, 48), ratio_range=(0.8, 1.5), keep_ratio=True), dict(type='RandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_size=(48, 64)), dict(type='PhotoMetricDistortion'), dict(type='PackSegInputs')]))
train_cfg = dict(max_epochs=6, val_interval=2)
param_scheduler = [dict(type='PolyLR', power=0.9, by_epoch=True, end=6, convert_to_iter_based=True)]
"""
# Processes are forked from one that has imported everything. Every second kill waits for a file to be written.
DRIVER = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
from mmengine.config import Config
from repvgg_seg.core import files
from repvgg_seg.core.reading import read_checkpoint
from repvgg_seg.engine.resuming import find_resumable
from repvgg_seg.engine.segmentation import train_segmentor

config_path, root, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
choose = random.Random(20)
force = os.fsync
def slowly(descriptor):
    force(descriptor)
    time.sleep(0.05)
files.os.fsync = slowly

def start(work_dir, resume):
    child = os.fork()
    if child == 0:
        config = Config.fromfile(config_path)
        config.work_dir, config.resume = str(work_dir), resume
        log = os.open(root / f'{work_dir.name}.log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1), os.dup2(log, 2)
        code = 1
        try:
            train_segmentor(config)
            code = 0
        finally:
            os._exit(code)
    return child

def writes(work_dir):
    return bool(list(work_dir.glob('.*.pth.*')))

def ended(child, work_dir, seconds, in_writing):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or (in_writing and not writes(work_dir)):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        time.sleep(0.01)
    return None

begin = time.monotonic()
assert os.waitpid(start(root / 'unbroken', False), 0)[1] == 0
span = time.monotonic() - begin
report = dict(kills=0, while_writing=0, in_vain=0, iterations=[], runs=0)
while report['kills'] < kills:
    work_dir, done, resume = root / f"run{report['runs']}", 0, False
    while True:
        child = start(work_dir, resume)
        wait = choose.uniform(0.1, 0.8) * span if report['kills'] < kills else 100 * span
        status = ended(child, work_dir, wait, in_writing=report['kills'] % 2 == 1)
        if status is not None:
            assert status == 0, 'the run failed'
            break
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        report['kills'] += 1
        left, _ = find_resumable(work_dir)
        now = read_checkpoint(left)['meta']['iter'] if left else 0
        assert now >= done, f'iteration {done} was saved, {now} is left'
        report['iterations'].append(now)
        report['while_writing'] += writes(work_dir)
        report['in_vain'] += now == done
        done, resume = now, True
    report['runs'] += 1
print('REPORT' + json.dumps(report))
"""


@pytest.fixture(scope='module')
def runs(tmp_path_factory) -> tuple[Path, dict]:
    """The folder of work dirs, and what was counted."""
    folder = tmp_path_factory.mktemp('kills')
    write_toy_streets(folder / 'streets', dict(train=6, val=2), 48, 64)
    (folder / 'config.py').write_text(CHANGES.format(base=write_segmentor_config(folder / 'tiny.py', folder / 'streets')))
    (folder / 'driver.py').write_text(DRIVER)
    process = subprocess.run([sys.executable, folder / 'driver.py', folder / 'config.py', folder, str(KILLS)],
                             capture_output=True, text=True, timeout=300 + 60 * KILLS)
    assert process.returncode == 0, process.stderr[-2000:] + ''.join(path.read_text()[-3000:] for path in folder.glob('*.log'))
    report = json.loads(process.stdout.partition('REPORT')[2])
    print(report)  # noqa: T201
    return folder, report


def runs_in(folder: Path) -> list[Path]:
    """The work dirs of the killed runs; before Python 3.11, a pattern that ends in a slash also matches files."""
    return [path for path in folder.glob('run*') if path.is_dir()]


def test_every_kill_was_survived(runs):
    folder, report = runs
    assert report['kills'] == KILLS and report['runs'] == len(runs_in(folder))


def test_nothing_temporary_is_left(runs):
    assert not list(runs[0].glob('*/.*.pth*'))


def assert_same(actual, expected, place: str = '') -> None:
    """Equal bit for bit, whatever it is made of."""
    import torch
    if isinstance(expected, torch.Tensor):
        assert torch.equal(actual, expected), place
    elif isinstance(expected, dict):
        assert actual.keys() == expected.keys(), place
        for key in expected:
            assert_same(actual[key], expected[key], f'{place}.{key}')
    elif isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected), place
        for index, pair in enumerate(zip(actual, expected)):
            assert_same(*pair, f'{place}.{index}')
    else:
        assert actual == expected, place


def test_weights_optimizer_schedule_and_random_state_are_those_of_the_unbroken_run(runs):
    from repvgg_seg.core.reading import read_checkpoint
    folder, _ = runs
    names = {path.name for path in (folder / 'unbroken').glob('*.pth')}
    assert len(names) == 3 and {'epoch_5.pth', 'epoch_6.pth'} < names
    for run in runs_in(folder):
        assert {path.name for path in run.glob('*.pth')} >= names
        for name in names:
            actual, expected = read_checkpoint(run / name), read_checkpoint(folder / 'unbroken' / name)
            for key in ('state_dict', 'optimizer', 'param_schedulers', 'random_states'):
                assert_same(actual.get(key), expected.get(key), f'{name}.{key}')
