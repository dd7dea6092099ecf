"""Devices that exported files run on: what is here, and the check that another device gives the answers of the CPU."""
import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..core.errors import UserError
from .backend import AUTO, CPU, Backend, DeviceError, Run
from .backends import BACKENDS, backend_of

# The largest allowed share of pixels (or images) whose class changes, by precision: from the trained model to an exported file,
# and from the CPU to another device.
CHANGED_LIMITS = {'fp32': 1e-3, 'fp16': 0.01, 'bf16': 0.05, 'int8': 0.05}
COMPARED = 4  # Images of the comparison.
SIDE = 64  # Their height and width, if the artifact takes any size.


def known_devices() -> list[str]:
    """All names of devices, whether they are here or not."""
    return [*dict.fromkeys([CPU, *(device for backend in BACKENDS.values() for device in backend.devices)]), AUTO]


def present_devices(backend: Backend) -> list[str]:
    """Devices of a runtime that are here, those that :data:`AUTO` tries first; empty if the runtime is not installed."""
    if importlib.util.find_spec(backend.module) is None:
        return []
    return backend.present(importlib.import_module(backend.module))


def placements(names: Sequence[str], device: str) -> list[tuple[str, str]]:
    """List the files that can run on a device, each with the device, in the order in which they are to be tried.

    Args:
        names: names of exported files, the preferred ones first.
        device: a device, or :data:`AUTO` for the first that works: other devices before the CPU.

    Raises:
        UserError: there is no such device.
        DeviceError: no file can run on the device.
    """
    if device not in known_devices():
        raise UserError(f'device must be among {", ".join(known_devices())}, got {device!r}')
    if device == CPU:
        return [(name, CPU) for name in names]
    here = {name: present_devices(backend_of(Path(name))) for name in names}
    if device == AUTO:  # What comes after the CPU is used on demand only.
        pairs = [(name, each) for name, devices in here.items() for each in devices[:devices.index(CPU) + 1 if devices else 0]]
        return sorted(pairs, key=lambda pair: pair[1] == CPU) or [(name, CPU) for name in names]
    found = [(name, device) for name, devices in here.items() if device in devices]
    if not found:
        able = dict.fromkeys(backend_of(Path(name)).title for name in names if device in backend_of(Path(name)).devices)
        lack = f'{" and ".join(able)} does not find it here' if able else f'no runtime of {", ".join(names)} can use it'
        there = dict.fromkeys(each for devices in here.values() for each in devices)
        raise DeviceError(f'device {device}: {lack}; there is {", ".join(there) or "no runtime"}')
    return found


def check_device(path: Path, device: str, run: Run, reference: Run, precision: str, shape: tuple[int, int, int],
                 dtype: np.dtype) -> None:
    """Compare the classes that a file gives on a device and on the CPU, for images of smooth noise.

    Args:
        path: the file.
        device: device of ``run``.
        run, reference: the file on the device and on the CPU.
        precision: precision of the file.
        shape: height, width and number of channels of the images.
        dtype: dtype of the images.

    Raises:
        DeviceError: more of them differ than the precision allows.
    """
    height, width, channels = shape
    coarse = np.random.default_rng(0).random((COMPARED, -(-height // 8), -(-width // 8), channels))
    images = (coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width] * np.iinfo(dtype).max).astype(dtype)
    found, expected = (np.asarray(each(images)) for each in (run, reference))
    if found.dtype == np.float32:  # Logits.
        found, expected = (scores.argmax(1) if scores.shape[1] > 1 else scores > 0 for scores in (found, expected))
    changed = float((found != expected).mean())
    if not changed <= CHANGED_LIMITS[precision]:
        raise DeviceError(f'{path} on the device {device} gives other classes than on the CPU for {changed:.2%} of the answers '
                          f'(limit {CHANGED_LIMITS[precision]:.1%}); use another device')
