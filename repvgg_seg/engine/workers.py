"""Worker processes of data loaders: their number, and an explanation if one of them dies."""
import os
import re

from mmengine.config import Config
from mmengine.dist import get_world_size


def limit_workers(config: Config) -> list[str]:
    """Lower the ``num_workers`` of a config's loaders to the cores that each process has on this machine.

    Returns:
        Descriptions of the changes.
    """
    cores, notes = cores_of_process(config), []
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = config.get(name)
        if loader and (wanted := loader.get('num_workers', 0)) > cores:
            loader.num_workers = cores
            notes.append(f'{name}.num_workers is {cores} instead of {wanted}: as many as there are cores for each process')
    return notes


def cores_of_process(config: Config) -> int:
    """Number of available cores divided by the number of training processes on this machine; at least 1."""
    cores = len(os.sched_getaffinity(0))
    if config.get('launcher') == 'slurm' and 'SLURM_CPUS_PER_TASK' in os.environ:
        return min(cores, int(os.environ['SLURM_CPUS_PER_TASK']))
    neighbors = os.environ.get('LOCAL_WORLD_SIZE') or os.environ.get('OMPI_COMM_WORLD_LOCAL_SIZE') or 1
    return max(1, cores // int(neighbors)) if get_world_size() > 1 else cores


def lost_worker(error: Exception) -> str | None:
    """Message for the user if PyTorch reports that a loader's worker died; None for other errors."""
    if not (found := re.match(r'DataLoader worker \((pid.*?)\) (is killed|exited unexpectedly)', str(error))):
        return None
    return (f'a worker process of a data loader ({found[1]}) has died, most likely killed by the system because the memory is '
            'full (in a container perhaps its /dev/shm); lower num_workers or batch_size of the loader')
