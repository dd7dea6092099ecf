"""How many worker processes a loader has."""
import os

import pytest
from mmengine.config import Config

from repvgg_seg.engine import workers
from repvgg_seg.engine.workers import limit_workers, lost_worker


@pytest.mark.situation('Smaller', 'more loader workers than cores', before='all were started, and slowed each other down',
                       now='as many as there are cores for each process; a line in the log says so')
@pytest.mark.parametrize(('variables', 'launcher', 'processes', 'expected'), [
    ({}, 'none', 1, 6), (dict(LOCAL_WORLD_SIZE='2'), 'pytorch', 2, 3), (dict(LOCAL_WORLD_SIZE='9'), 'pytorch', 9, 1),
    (dict(LOCAL_WORLD_SIZE='2'), 'none', 1, 6), (dict(OMPI_COMM_WORLD_LOCAL_SIZE='3'), 'mpi', 6, 2),
    (dict(SLURM_CPUS_PER_TASK='4'), 'slurm', 8, 4), (dict(SLURM_CPUS_PER_TASK='16'), 'slurm', 8, 6)], ids=str)
def test_never_more_than_the_cores(monkeypatch, variables, launcher, processes, expected):
    for name in ('LOCAL_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_SIZE', 'SLURM_CPUS_PER_TASK'):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {*range(6)})
    monkeypatch.setattr(workers, 'get_world_size', lambda: processes)
    config = Config(dict(launcher=launcher, train_dataloader=dict(num_workers=8), val_dataloader=dict(num_workers=1),
                         test_dataloader=None))
    assert limit_workers(config) == [f'train_dataloader.num_workers is {expected} instead of 8: as many as there are cores for '
                                     'each process']
    assert config.train_dataloader.num_workers == expected and config.val_dataloader.num_workers == 1
    assert limit_workers(config) == []


@pytest.mark.parametrize(('message', 'process'), [
    ('DataLoader worker (pid 12) is killed by signal: Killed. ', 'pid 12'),
    ('DataLoader worker (pid(s) 12, 13) exited unexpectedly', 'pid(s) 12, 13'),
    ('DataLoader worker (pid 12) exited unexpectedly with exit code 1. Details are lost', 'pid 12')])
def test_lost_worker(message, process):
    assert lost_worker(RuntimeError(message)) == (
        f'a worker process of a data loader ({process}) has died, most likely killed by the system because the memory is full '
        '(in a container perhaps its /dev/shm); lower num_workers or batch_size of the loader')
    assert lost_worker(RuntimeError(f'Caught RuntimeError in DataLoader worker process 0.\n{message}')) is None
