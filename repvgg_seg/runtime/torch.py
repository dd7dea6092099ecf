"""Exported programs (.pt2), in PyTorch."""
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .backend import CPU, Backend, Run, Setting
from .description import KEY

CUDA = 'cuda'
EXTRA = f'extra/{KEY}.json'  # Name in an archive, below the archive's own.


def load(torch: ModuleType, path: Path, precision: str, setting: Setting) -> Run:
    """Load a program; see :class:`repvgg_seg.runtime.backend.Backend`."""
    if setting.threads:
        torch.set_num_threads(setting.threads)
    program = torch.export.load(path)
    if setting.device == CUDA:
        return _on_gpu(torch, program)
    return on_cpu(torch, program.module())


def on_cpu(torch: ModuleType, module: Callable[[Any], Any]) -> Run:
    """Run a function of tensors on arrays."""
    module = torch.no_grad()(module)
    process = os.getpid()

    def run(images: np.ndarray) -> np.ndarray:
        if os.getpid() != process:
            torch.set_num_threads(1)  # OpenMP's other threads do not survive a fork; PyTorch would wait for them forever.
        return module(torch.from_numpy(images)).numpy()

    return run


def _on_gpu(torch: ModuleType, program: Any) -> Run:
    """Load a program onto the GPU, where the process from then on computes in full float32: PyTorch has no other setting."""
    from torch.export.passes import move_to_device_pass

    # Otherwise convolutions round the factors of products to 10 bits (TF32).
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    module = torch.no_grad()(move_to_device_pass(program, CUDA).module())

    def run(images: np.ndarray) -> np.ndarray:
        return module(torch.from_numpy(images).to(CUDA)).cpu().numpy()

    return run


def present(torch: ModuleType) -> list[str]:
    """Devices that PyTorch finds."""
    return [*([CUDA] if torch.cuda.is_available() else []), CPU]


def describe(path: Path, description: str) -> None:
    """Write a description into a file as one of the extra files of ``torch.export.save``, ``repvgg_seg.json``."""
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr(f'{archive.namelist()[0].partition("/")[0]}/{EXTRA}', description)


def description(path: Path) -> str | None:
    """Read the description of a file; None if there is none.

    Raises:
        zipfile.BadZipFile: the file is not an archive, or is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.partition('/')[2] == EXTRA]
        return archive.read(names[-1]).decode() if names else None


BACKEND = Backend('exported program (pt2)', 'torch', 'torch', load, needs_torch=True, devices=(CUDA, CPU), present=present,
                  describe=describe, description=description)
