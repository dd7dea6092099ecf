"""Exported programs (.pt2), in PyTorch."""
import os
from pathlib import Path
from types import ModuleType

import numpy as np

from .backend import Backend, Run


def load(torch: ModuleType, path: Path, precision: str, threads: int | None) -> Run:
    if threads:
        torch.set_num_threads(threads)
    module = torch.no_grad()(torch.export.load(path).module())
    process = os.getpid()

    def run(images: np.ndarray) -> np.ndarray:
        if os.getpid() != process:
            torch.set_num_threads(1)  # OpenMP's other threads do not survive a fork; PyTorch would wait for them forever.
        return module(torch.from_numpy(images)).numpy()

    return run


BACKEND = Backend('exported program (pt2)', 'torch', 'torch', load)
