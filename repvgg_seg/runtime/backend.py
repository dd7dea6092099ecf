"""What a runtime for exported files is."""
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from ..core.errors import UserError
from .description import read_sidecar, write_sidecar

Run = Callable[[np.ndarray], np.ndarray]
CPU, AUTO = 'cpu', 'auto'


class DeviceError(UserError):
    """A device is not here, or does not do what was asked for."""


@dataclass(frozen=True)
class Setting:
    """How a file is loaded.

    Args:
        threads: number of CPU threads; None to let the runtime decide.
        device: device, one of the runtime's.
        throughput: whether several threads will run the file at the same time, for which OpenVINO has a mode of its own.
    """
    threads: int | None = None
    device: str = CPU
    throughput: bool = False


ON_CPU = Setting()


@dataclass(frozen=True)
class Backend:
    """A runtime that one kind of exported file is loaded into.

    Args:
        title: its name in tables.
        module: its Python module, which is imported when a file is loaded.
        package: the package that pip installs it from.
        load: function of the module, a path, a precision, and a setting that returns a function of images, uint8 or uint16 (N,
            H, W, channels); see :class:`repvgg_seg.runtime.predictor.Predictor`.
        needs_torch: whether its Python module needs PyTorch.
        weights_beside: whether the weights are in a second file of the same name that ends in ``.bin``.
        devices: all devices that it can use.
        present: function of the module that lists those that are here. ``'auto'`` tries those up to the CPU, in this order.
        throughput: whether it has a mode for several threads at the same time.
        system: the only system that it runs on, as ``sys.platform`` names it; None if it runs on all.
        describe: function that writes the description of a file into it, or beside it; see
            :mod:`repvgg_seg.runtime.description`.
        description: function that reads it; None if there is none. It fails with an OSError, a ValueError or a BadZipFile if
            the file is damaged.
    """
    title: str
    module: str
    package: str
    load: Callable[[ModuleType, Path, str, Setting], Run]
    needs_torch: bool = False
    weights_beside: bool = False
    devices: tuple[str, ...] = (CPU, )
    present: Callable[[ModuleType], list[str]] = lambda module: [CPU]
    throughput: bool = False
    system: str | None = None
    describe: Callable[[Path, str], None] = write_sidecar
    description: Callable[[Path], str | None] = read_sidecar

    @property
    def runs_here(self) -> bool:
        """Whether it runs on this system."""
        return self.system in (None, sys.platform)
