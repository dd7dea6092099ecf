"""Which threads call ncnn."""
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from repvgg_seg.runtime.backend import Setting
from repvgg_seg.runtime.ncnn import load


class Net:
    """Stands in for ``ncnn.Net`` and its extractor, and records the threads that use it."""
    threads: set[str] = set()

    def __init__(self) -> None:
        self.opt = SimpleNamespace()

    def load_param(self, path: str) -> int:
        self.threads.add(threading.current_thread().name)
        return 0

    def output_names(self) -> list[str]:
        return ['labels']

    def create_extractor(self) -> 'Net':
        return self

    def input(self, name: str, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def extract(self, name: str) -> tuple[int, np.ndarray]:
        self.threads.add(threading.current_thread().name)
        return 0, self.pixels

    load_model = load_param


@pytest.mark.parametrize(('threads', 'expected'), [(1, {'MainThread', 'caller_0'}), (2, {'ncnn_0'}), (None, {'ncnn_0'})])
def test_a_network_with_threads_of_its_own_always_runs_in_the_same_one(monkeypatch, threads, expected):
    monkeypatch.setattr(Net, 'threads', set())
    ncnn = SimpleNamespace(Net=Net, Mat=np.asarray)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), np.uint8)
    runs = [load(ncnn, Path('model.fp32.ncnn.param'), 'fp32', Setting(threads)) for _ in range(2)]
    with ThreadPoolExecutor(1, 'caller') as caller:
        for run in runs:
            np.testing.assert_array_equal(caller.submit(run, images).result(), images.argmax(-1))
    assert Net.threads == expected
