"""Shared by all tests: a fixed seed before each, few threads, and the warnings of the libraries below us muted."""
import gc
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

# Several tests compare bits or start two ranks, which one GPU does not allow. CUDA_VISIBLE_DEVICES=0 shows a GPU to all tests.
os.environ.setdefault('CUDA_VISIBLE_DEVICES', '')

import torch  # noqa: E402

SEED = 20210127
THREADS = int(os.environ.get('OMP_NUM_THREADS', 2))
LIBRARY_WARNINGS = (
    'ignore:.*has been deprecated:FutureWarning:mmengine',
    'ignore:.*torch.cuda.amp.*:FutureWarning',
    'ignore:.*pkg_resources.*',
    'ignore:For mini-batches of size 1.*:UserWarning',
    'ignore:When align_corners=True, the output would more aligned.*:UserWarning',
    'ignore:`binary` is deprecated.*:UserWarning',
    'ignore:dropout_ratio.*:UserWarning',
    'ignore:__array__ implementation.*:DeprecationWarning:pycocotools',
)


def pytest_configure(config: pytest.Config) -> None:
    for line in LIBRARY_WARNINGS:
        config.addinivalue_line('filterwarnings', line)


@pytest.fixture(scope='session', autouse=True)
def unformatted_configs() -> Iterator[None]:
    """MMEngine formats the text of a config with yapf several times a run, which takes longer than a tiny training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True))
        yield


@pytest.fixture(scope='module', autouse=True)
def small_heap() -> None:
    """MMEngine collects garbage for each dataset, which takes half a second unless the imported packages are left out."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='module', autouse=True)
def few_threads() -> None:
    """More threads than free cores make small operations wait for each other. Loading an exported program may change them,
    and with another number, a training gives other weights."""
    torch.set_num_threads(THREADS)


@pytest.fixture(autouse=True)
def seed() -> None:
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)


@pytest.fixture
def save(tmp_path) -> Callable[..., Path]:
    """Save something as a checkpoint of some name."""

    def save_as(content: object, name: str = 'weights.pth') -> Path:
        torch.save(content, tmp_path / name)
        return tmp_path / name
    return save_as


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A folder on a disk of 3 MB, where this user may mount one."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', str(folder)]
    if not shutil.which('mount') or subprocess.run(command, capture_output=True).returncode:
        pytest.skip('needs the right to mount a tmpfs')
    yield folder
    subprocess.run(['umount', '--lazy', str(folder)], check=True)
